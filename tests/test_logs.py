"""The loader's figures in the real trackers and trainers, offline."""

import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import smartaug

DATA = TensorDataset(torch.rand(16, 3, 4, 4), torch.arange(16) % 2)


def loader(**settings):
    return smartaug.DataLoader(DATA, 4, augment=smartaug.Flip(), reweight=smartaug.Uniform(), device="cpu", **settings)


def test_figures_are_flat_numbers():
    class Told(smartaug.Uniform):
        def stats(self):
            return {"inner": {"share": 0.5, "names": ["a"]}, "bad": float("nan"), "flag": True, "text": "x"}

    given = smartaug.DataLoader(DATA, 4, reweight=Told(), device="cpu")
    list(given)
    told = smartaug.logs.figures(given)
    assert told["smartaug/batches"] == 4.0
    assert told["smartaug/reweight/inner/share"] == 0.5
    assert told["smartaug/reweight/flag"] == 1.0
    assert not any(part in name for name in told for part in ("names", "bad", "text"))
    collate = smartaug.Collate(augment=smartaug.Flip())
    assert smartaug.logs.figures(collate, "x/")["x/batches"] == 0
    with pytest.raises(TypeError, match="a smartaug loader or Collate is wanted, got list"):
        smartaug.logs.figures([])


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    given, writer = loader(), SummaryWriter(str(tmp_path))
    log = smartaug.logs.to_tensorboard(given, writer)
    for epoch in range(2):
        list(given)
        log(epoch)
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("smartaug/samples")] == [(0, 16.0), (1, 32.0)]


def test_wandb_gets_numbers_by_step():
    noted = []

    class Run:  # the one method of a run that is called; the real one is tried below
        def log(self, told, step):
            noted.append((told, step))

    given = loader()
    list(given)
    smartaug.logs.to_wandb(given, Run())(7)
    assert noted == [(smartaug.logs.figures(given), 7)]


def test_wandb_offline(tmp_path):
    wandb = pytest.importorskip("wandb")
    given = loader()
    list(given)
    run = wandb.init(mode="offline", dir=str(tmp_path), project="smartaug", settings=wandb.Settings(console="off"))
    smartaug.logs.to_wandb(given, run)(3)
    run.finish()
    (file,) = Path(tmp_path).rglob("*.wandb")
    until = time.monotonic() + 30  # W&B's process may write after finish() has returned
    while b"smartaug/samples" not in records(file.read_bytes()):
        assert time.monotonic() < until
        time.sleep(0.1)


def records(data):
    """A log of LevelDB without the 7 bytes that head each block of 32 KiB, in which a record may go on."""
    return b"".join(data[at + 7 : at + 2**15] for at in range(0, len(data), 2**15))


def test_lightning(tmp_path):
    import lightning
    from lightning.pytorch.loggers import CSVLogger

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.criterion = (
                nn.Sequential(nn.Flatten(), nn.Linear(48, 2)),
                smartaug.Loss(nn.CrossEntropyLoss()),
            )

        def training_step(self, batch, _):
            images, target = batch
            return self.criterion(self.net(images), target)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    given, logger = loader(), CSVLogger(str(tmp_path))
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=logger, callbacks=[smartaug.logs.to_lightning(given)],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(Model(), given)
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("smartaug/samples")
    assert [float(line.split(",")[column]) for line in lines[1:]] == [16.0, 32.0]


def test_transformers(tmp_path):
    from transformers import Trainer, TrainingArguments

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.criterion = (
                nn.Sequential(nn.Flatten(), nn.Linear(48, 2)),
                smartaug.Loss(nn.CrossEntropyLoss()),
            )

        def forward(self, pixel_values, labels):
            logits = self.net(pixel_values)
            return {"loss": self.criterion(logits, labels), "logits": logits}

    rows = [{"pixel_values": image, "labels": int(label)} for image, label in DATA]
    collate = smartaug.Collate(augment=smartaug.Flip(), seed=0)
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=4, report_to=[], use_cpu=True, disable_tqdm=True,
        save_strategy="no", logging_strategy="no", remove_unused_columns=False,
    )  # fmt: skip
    trainer = Trainer(Model(), arguments, train_dataset=rows, data_collator=collate)
    made = smartaug.logs.to_transformers(collate, trainer)
    assert made in trainer.callback_handler.callbacks
    trainer.train()
    noted = [entry["smartaug/samples"] for entry in trainer.state.log_history if "smartaug/samples" in entry]
    assert noted == [16.0, 32.0]
    assert json.dumps(trainer.state.log_history)
