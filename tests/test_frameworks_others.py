"""skorch, HF Trainer, a stock DataLoader with `Collate`, albumentations in the dataset: the stages run exactly once."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, default_collate

import smartaug
from tests.frameworks import SIZE, Coded, add_ten, assert_epoch, flips, net, read, read_pass, stages, weigh

WORKERS = {"0": {}, "2": {"num_workers": 2}, "persistent": {"num_workers": 2, "persistent_workers": True}}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def by_epoch(batches, epochs, size=SIZE):
    """[(index, flipped)] of each epoch, from the batches of all."""
    seen = [sample for batch in batches for sample in batch]
    assert len(seen) == epochs * size
    return [seen[start : start + size] for start in range(0, len(seen), size)]


# --- skorch ----------------------------------------------------------------------------------------------------------


class Recording(nn.Module):
    """A linear model that keeps what its training batches showed."""

    def __init__(self):
        super().__init__()
        self.net, self.batches = net(), []

    def forward(self, images):
        if self.training:
            self.batches.append(read(images))
        return self.net(images)


@pytest.mark.parametrize("workers", [0, 2])
def test_skorch(workers):
    import skorch

    images = torch.stack([Coded()[index][0] for index in range(SIZE)])
    labels = torch.arange(SIZE) % 4
    classifier = skorch.NeuralNetClassifier(
        Recording,
        criterion=smartaug.Loss,
        criterion__criterion=nn.CrossEntropyLoss(),
        iterator_train=smartaug.DataLoader,
        iterator_train__shuffle=True,
        iterator_train__num_workers=workers,
        iterator_train__augment=stages(),
        iterator_train__reweight=weigh,
        iterator_train__seed=0,
        max_epochs=2,
        batch_size=4,
        train_split=None,
        verbose=0,
    )
    loaders = []
    build = classifier.get_iterator
    classifier.get_iterator = lambda *args, **kwargs: loaders.append(build(*args, **kwargs)) or loaders[-1]
    classifier.fit(images, labels)
    (loader,) = loaders  # one loader for all epochs, so the epochs are counted
    assert type(loader) is smartaug.DataLoader
    orders = by_epoch(classifier.module_.batches, 2)
    for epoch, seen in enumerate(orders):
        assert_epoch(seen, epoch)
    assert [index for index, _ in orders[0]] != [index for index, _ in orders[1]]
    assert loader.stats()["weighted"] == 2 * SIZE / 4
    assert classifier.predict(images).shape == (SIZE,)
    assert all(np.isfinite(classifier.history[:, "train_loss"]))


# --- HF Trainer ------------------------------------------------------------------------------------------------------


class HFModel(nn.Module):
    """Computes its own loss from ``labels``, as HF's models do, and keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.net, self.batches, self.extra = net(), [], set()

    def forward(self, pixel_values, labels=None):
        if self.training:
            self.batches.append(read(pixel_values, labels))
        logits = self.net(pixel_values)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class AcceptsAll(HFModel):
    def forward(self, pixel_values, labels=None, **kwargs):
        self.extra |= set(kwargs)
        return super().forward(pixel_values, labels)


class Columns(Coded):
    """Dict samples with a column that the model does not know."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return {"pixel_values": image, "labels": label, "name": index}


def train(model, folder, collate, dataset, trainer=None, **settings):
    import transformers

    settings = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "seed": 1, "save_strategy": "no", **settings}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **settings,
    )
    run = (trainer or transformers.Trainer)(model=model, args=arguments, train_dataset=dataset, data_collator=collate)
    run.train()
    return run


def test_a_trainer_with_its_own_training_loader_evaluates_what_the_dataset_gives(tmp_path):
    import transformers

    class Augmenting(transformers.Trainer):
        def get_train_dataloader(self):
            loader = smartaug.DataLoader(
                self.train_dataset,
                batch_size=self._train_batch_size,
                shuffle=True,
                collate_fn=self.data_collator,
                augment=lambda images: images.float() * 0,
                device="cpu",
            )
            return self.accelerator.prepare(loader)

    class Seeing(HFModel):
        def forward(self, pixel_values, labels=None, name=None):
            self.extra.add((self.training, bool((pixel_values == 0).all())))
            logits = self.net(pixel_values.float())
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    dataset, model = Columns(8), Seeing()
    run = train(model, tmp_path, own_collate, dataset, Augmenting, remove_unused_columns=False, num_train_epochs=1)
    run.evaluate(dataset)
    assert model.extra == {(True, True), (False, False)}


def hf_collators():
    import transformers

    return {"default_data_collator": transformers.default_data_collator, "torch": default_collate, "own": own_collate}


def own_collate(samples):
    return {name: torch.stack([torch.as_tensor(sample[name]) for sample in samples]) for name in samples[0]}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("inner", ["default_data_collator", "torch", "own"])
def test_hf_trainer(tmp_path, inner, remove, workers):
    model = HFModel() if remove else AcceptsAll()
    collate = smartaug.Collate(hf_collators()[inner], augment=stages(), seed=0)
    train(model, tmp_path, collate, Columns(), remove_unused_columns=remove, dataloader_num_workers=workers)
    orders = by_epoch(model.batches, 2)
    for epoch, seen in enumerate(orders):
        assert_epoch(seen, epoch)
    assert [index for index, _ in orders[0]] != [index for index, _ in orders[1]]
    assert collate.stats()["samples"] == 2 * SIZE
    assert "name" not in model.extra if remove else "name" in model.extra


def test_hf_trainer_resumed_by_skipping_the_first_batches(tmp_path):
    whole, rest = HFModel(), HFModel()
    collate = smartaug.Collate(augment=stages(), seed=0)
    train(whole, tmp_path, collate, Coded(keys=("pixel_values", "labels")), save_strategy="steps", save_steps=11)
    collate = smartaug.Collate(augment=stages(), seed=0)
    collate.set_epoch(1)  # HF cannot tell a collate function
    resumed = train_resumed(rest, tmp_path, collate)
    assert resumed.state.global_step == 16
    assert rest.batches == whole.batches[11:]


def train_resumed(model, folder, collate):
    import transformers

    class Resuming(transformers.Trainer):
        def train(self):
            return super().train(resume_from_checkpoint=str(folder / "checkpoint-11"))

    return train(model, folder, collate, Coded(keys=("pixel_values", "labels")), Resuming)


def test_hf_trainer_with_the_loss_outside_the_model(tmp_path):
    import transformers

    class Weighted(transformers.Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            outputs = model(**inputs)
            loss = smartaug.Loss(nn.CrossEntropyLoss())(outputs["logits"], inputs["labels"])
            return (loss, outputs) if return_outputs else loss

    collate = smartaug.Collate(augment=stages(), reweight=weigh, seed=0)
    dataset = Coded(48, keys=("pixel_values", "labels"))
    train(HFModel(), tmp_path, collate, dataset, Weighted)  # warnings are errors: no NoEffectWarning
    assert collate.stats()["weighted"] == 24


def test_hf_trainer_whose_model_takes_the_loss_is_warned(tmp_path):
    collate = smartaug.Collate(augment=stages(), reweight=weigh, seed=0)
    dataset = Coded(48, keys=("pixel_values", "labels"))
    with pytest.warns(smartaug.NoEffectWarning, match="compute the loss outside the model"):
        train(HFModel(), tmp_path, collate, dataset)


# --- a stock DataLoader ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_a_stock_loader_with_collate(workers):
    collate = smartaug.Collate(augment=stages(), seed=0)
    loader = TorchDataLoader(Coded(), batch_size=4, shuffle=True, collate_fn=collate, **workers)
    for epoch in range(3):
        assert_epoch(read_pass(loader), epoch)
        assert collate.stats()["epoch"] == epoch
    collate.set_epoch(9)
    assert_epoch(read_pass(loader), 9)
    assert collate.stats()["samples"] == 4 * SIZE


def test_two_passes_at_once_keep_their_epochs():
    collate = smartaug.Collate(augment=stages(), seed=0)
    loader = TorchDataLoader(Coded(), batch_size=4, shuffle=True, collate_fn=collate, num_workers=1)
    seen = [[], []]
    for batches in zip(loader, loader, strict=True):
        for number, batch in enumerate(batches):
            seen[number] += read(*batch)
    for epoch in range(2):
        assert_epoch(seen[epoch], epoch)


def test_dicts_of_a_stock_loader_answer_like_dicts():
    collate = smartaug.Collate(augment=stages(), seed=0)
    loader = TorchDataLoader(Coded(keys=("image", "label")), batch_size=4, collate_fn=collate)
    for number, batch in enumerate(loader):
        assert "image" in batch
        assert sorted(batch.keys()) == ["image", "label"]
        assert {**batch.to("cpu")}.keys() == set(batch)
        assert dict(read(batch["image"], batch["label"])) == {
            index: flips(0)[index] for index in range(4 * number, 4 * number + 4)
        }
    assert collate.stats()["samples"] == SIZE


def test_collate_outside_a_loader_is_the_inner_function():
    collate = smartaug.Collate(augment=stages(), seed=0)
    images, target = collate([Coded()[0], Coded()[5]])
    assert type(target) is torch.Tensor
    torch.testing.assert_close(images[:, 0, 0, 3], torch.tensor([0.0, 0.005]))
    assert collate.stats()["samples"] == 0


def test_collate_resumes_its_epoch():
    collate = smartaug.Collate(augment=stages(), seed=0)
    loader = TorchDataLoader(Coded(), batch_size=4, collate_fn=collate)
    for _ in range(2):
        read_pass(loader)
    state = pickle.loads(pickle.dumps(collate.state_dict()))
    again = smartaug.Collate(augment=stages())
    again.load_state_dict(state)
    assert_epoch(read_pass(TorchDataLoader(Coded(), batch_size=4, collate_fn=again)), 1)


# --- albumentations --------------------------------------------------------------------------------------------------


class Albumented(Dataset):
    """albumentations turns each image per sample in the workers: the usual dataset."""

    def __init__(self):
        import albumentations

        self.samples = Coded()
        self.transform = albumentations.Compose([albumentations.VerticalFlip(p=1.0), albumentations.ToTensorV2()])

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, label = self.samples[index]
        image = image.permute(1, 2, 0).contiguous().numpy().copy()
        image[0] += 0.25  # the top row, which the flip takes to the bottom
        return self.transform(image=image)["image"], label


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_albumentations_in_the_dataset(workers):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fetch version info.*")
        loader = smartaug.DataLoader(Albumented(), batch_size=4, shuffle=True, augment=stages(), seed=0, **workers)
    for epoch in range(2):
        seen = []
        for images, target in loader:
            torch.testing.assert_close(images[:, :, 7], images[:, :, 1] + 0.25)  # flipped once, before the stages
            seen += read(images, target)
        assert_epoch(seen, epoch)
    assert loader.stats()["samples"] == 2 * SIZE


# --- weights that nothing reads ---------------------------------------------------------------------------------------


def test_weighted_batches_without_a_loss_warn_once_when_two_are_gone():
    loader = smartaug.DataLoader(Coded(), batch_size=1, reweight=weigh, augment=add_ten)
    iterator = iter(loader)
    criterion = nn.CrossEntropyLoss()
    for _ in range(3):
        images, target = next(iterator)
        criterion(net()(images), target)
    with pytest.warns(smartaug.NoEffectWarning, match=r"write criterion = smartaug\.Loss\(criterion\)"):
        next(iterator)
    for _ in iterator:  # warnings are errors: it does not come again
        pass
    for _ in loader:
        pass


def test_weights_that_a_loss_reads_do_not_warn():
    loader = smartaug.DataLoader(Coded(), batch_size=1, reweight=weigh, augment=add_ten)
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    for images, target in loader:
        criterion(net()(images), target)
    assert loader.stats()["weighted"] == SIZE


def test_weights_in_a_batch_do_not_warn():
    loader = smartaug.DataLoader(Coded(), batch_size=1, reweight=weigh, augment=add_ten, returns="batch")
    for batch in loader:
        assert batch.weight.shape == (1,)
    assert loader.stats()["weighted"] == SIZE
