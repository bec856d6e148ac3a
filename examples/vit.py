"""A Vision Transformer by Hugging Face's Trainer, with a loss of one's own.

The Trainer makes its loaders by one method each. That of the training loader is overridden; evaluation stays as it is.
"""

import argparse
import tempfile

import tiny
import torch
from torch import nn
from torchvision import datasets
from torchvision.transforms import v2
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import smartaug

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="train", help="a folder with a folder of images for each class")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--tiny", action="store_true", help="a few generated photographs, a small model")
args = parser.parse_args()
side = 32 if args.tiny else 224

train_set = datasets.ImageFolder(
    tiny.photographs(tempfile.mkdtemp()) if args.tiny else args.data,
    v2.Compose(
        [
            v2.RandomResizedCrop(side),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ]
    ),
)
if args.tiny:
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = ViTForImageClassification(ViTConfig(image_size=side, patch_size=8, num_labels=2, **small))
else:
    pretrained = "google/vit-base-patch16-224-in21k"
    model = ViTForImageClassification.from_pretrained(pretrained, num_labels=len(train_set.classes))


def collate(samples):
    return {
        "pixel_values": torch.stack([image for image, _ in samples]),
        "labels": torch.tensor([label for _, label in samples]),
    }


criterion = smartaug.Loss(nn.CrossEntropyLoss(label_smoothing=0.1))


def compute_loss(outputs, labels, num_items_in_batch=None):
    return criterion(outputs.logits, labels)


class AugmentingTrainer(Trainer):
    def get_train_dataloader(self):
        loader = smartaug.DataLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            shuffle=True,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            lift=True,
            augment=smartaug.MixUp(0.2),
        )
        return self.accelerator.prepare(loader)


trainer = AugmentingTrainer(
    model,
    TrainingArguments(
        tempfile.mkdtemp() if args.tiny else "vit",
        num_train_epochs=1 if args.tiny else args.epochs,
        per_device_train_batch_size=8 if args.tiny else 32,
        dataloader_num_workers=0 if args.tiny else 8,
        learning_rate=5e-5,
        remove_unused_columns=False,
        report_to="none",
        use_cpu=args.tiny,
        disable_tqdm=args.tiny,
        dataloader_pin_memory=not args.tiny,
    ),
    train_dataset=train_set,
    data_collator=collate,
    compute_loss_func=compute_loss,
)
print(trainer.train())
