"""Pickles and checkpoints of earlier versions still load: what they call a module or a class is found where it is."""

import pickle
import re
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug.lift.decode.opening import Files
from smartaug.lift.deferred.calls import CallOnOne
from smartaug.lift.deferred.transform import DeferredTransform
from smartaug.lift.kornia.translate import Planned
from smartaug.lift.timm.translate import TimmErase
from smartaug.loading.fetch import BatchFetch
from smartaug.loading.renamed import RENAMED
from smartaug.pipeline.decoded_files import DecodedFiles

DATA = TensorDataset(torch.zeros(8, 3, 8, 8), torch.arange(8) % 2)
OLD = [  # what the pickles of earlier versions name, and what it is today
    ("collate", "Collate", smartaug.Collate),
    ("collate", "Pending", smartaug.loading.collate.Pending),
    ("dataset", "AugmentedDataset", smartaug.AugmentedDataset),
    ("loader", "DataLoader", smartaug.DataLoader),
    ("sampler", "CoresetSampler", smartaug.CoresetSampler),
    ("fetch", "Origin", smartaug._base.torch_fetch.Origin),
    ("batch_fetch", "Fetched", smartaug.loading.whole_batches.Fetched),
    ("pipeline_augment", "Augmenting", smartaug.pipeline.augmenting.Augmenting),
    ("pipeline_reweight", "Weighing", smartaug.pipeline.weighing.Weighing),
    ("stages", "Seed", smartaug.pipeline.stages.Seed),
    ("selection", "Selections", smartaug.pipeline.selection.Selections),
    ("notices", "NoEffectWarning", smartaug.NoEffectWarning),
    ("augment.tone", "Invert", smartaug.augment.ops.tone.Invert),
    ("augment.policies", "RandAugment", smartaug.RandAugment),
    ("augment.crops", "PadCrop", smartaug.PadCrop),
    ("augment.choose", "OneOf", smartaug.augment.ops.OneOf),
    ("augment.mix", "CutMix", smartaug.CutMix),
    ("augment.compose", "Compose", smartaug.Compose),
    ("head", "Listener", smartaug.grads.last_layer.Listener),
    ("grads.first_order", "Pass", smartaug.grads.ForwardPass),
    ("coreset.coreset", "Coreset", smartaug.Coreset),
    ("coreset.samples", "Samples", smartaug.coreset.samples.KnownSamples),
    ("coreset.record", "Record", smartaug.coreset.record.OutputRecord),
    ("coreset.uniform", "Uniform", smartaug.coreset.RandomSubset),
    ("reweight.uniform", "Uniform", smartaug.reweight.UniformWeights),
    ("reweight.learned", "ByRule", smartaug.reweight.ByRule),
    ("reweight.memory", "Memory", smartaug.reweight.memory.Memory),
    ("reweight.figures", "Figures", smartaug.reweight.figures.Figures),
    ("reweight.saflex", "SAFLEX", smartaug.SAFLEX),
    ("lift.timm", "TimmErase", TimmErase),
    ("batch", "_rebuild", smartaug.batch._rebuild),
    ("lift.deferred", "DeferredTransform", DeferredTransform),
    ("lift.deferred", "CallOnOne", CallOnOne),
    ("lift.kornia", "Planned", Planned),
    ("loading.whole_batches", "BatchFetch", BatchFetch),
    ("loading.augmented_dataset", "AugmentedDataset", smartaug.AugmentedDataset),
    ("loading.sampler", "CoresetSampler", smartaug.CoresetSampler),
    ("pipeline.augmenting", "Augmenting", smartaug.pipeline.augmenting.Augmenting),
]


def named(module, name):
    """A pickle of nothing but a class, written by hand: GLOBAL, then STOP."""
    return f"csmartaug.{module}\n{name}\n.".encode()


@pytest.mark.parametrize(("module", "name", "today"), OLD, ids=[f"{module}.{name}" for module, name, _ in OLD])
def test_a_class_is_found_by_its_old_name(module, name, today):
    assert pickle.loads(named(module, name)) is today


def test_a_loader_without_what_was_added_since_goes_on():
    """Each attribute that came after the first pickles; its value is then that of what did not exist."""
    images, labels = torch.rand(16, 3, 4, 4), torch.arange(16) % 2
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    reweight = smartaug.SAFLEX(network, (images[:8], labels[:8]))
    made = smartaug.DataLoader(TensorDataset(images, labels), 8, augment=smartaug.MixUp(), reweight=reweight, seed=0)
    pipeline = made._pipeline
    for part, names in (
        (pipeline, ("files", "magnitudes")),
        (pipeline.augmenting, ("averages", "reads_labels")),
        (pipeline.weighing, ("_of_pairs",)),
        (pipeline.selecting, ("plain",)),
        (reweight, ("judge", "train_on_val", "centred", "shrunk", "by_column")),
    ):
        for name in names:
            del part.__dict__[name]
    found = pickle.loads(pickle.dumps(made))
    found.reweight.bind(network)
    for _, target in found:
        assert target.weight.shape == (8,)
    assert found.stats()["reweight"]["batches"] == 2
    assert found._pipeline.augmenting.averages


@pytest.mark.parametrize("module", sorted(RENAMED))
def test_every_old_module_can_be_imported(module):
    found = pickle.loads(named(module, "annotations"))  # of `from __future__ import annotations`, in every module
    assert type(found).__name__ == "_Feature"


def test_what_never_was_is_not_found():
    with pytest.raises(AttributeError):
        pickle.loads(named("collate", "Nothing"))
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(named("nothing", "Collate"))


def as_earlier(made):
    """A pickle of ``made`` as an earlier version wrote it: every class of ours under its old name."""
    written = pickle.dumps(made, protocol=2)  # modules and names stand in it as lines of text
    for module, name, today in OLD:
        new = f"c{today.__module__}\n{today.__name__}\n".encode()
        written = written.replace(new, f"csmartaug.{module}\n{name}\n".encode())
    return written


def observed():
    """A coreset in mid-run, with a record."""
    coreset = smartaug.Coreset(0.5)
    loader = smartaug.DataLoader(DATA, batch_size=4, coreset=coreset, device="cpu", seed=0)
    net, criterion = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), smartaug.Loss(nn.CrossEntropyLoss())
    for _ in range(2):
        for images, target in loader:
            criterion(net(images), target)
    return coreset


MADE = {
    "Collate": lambda: smartaug.Collate(augment=[smartaug.augment.ops.tone.Invert(), smartaug.RandAugment()]),
    "AugmentedDataset": lambda: smartaug.AugmentedDataset(DATA, torch.abs, seed=3),
    "loader": lambda: smartaug.DataLoader(DATA, batch_size=4, augment=smartaug.Compose([smartaug.PadCrop(4)]), seed=0),
    "reweight.uniform": lambda: smartaug.DataLoader(DATA, batch_size=4, reweight=smartaug.Uniform()),
    "coreset": observed,
    "coreset.uniform": lambda: smartaug.Coreset(0.5, select=smartaug.coreset.Uniform()),
    "SAFLEX": lambda: smartaug.SAFLEX(None, (torch.zeros(4, 192), torch.arange(4) % 2)),
}


@pytest.mark.parametrize("name", MADE)
def test_a_whole_object_is_itself_again(name):
    made = MADE[name]()
    written = as_earlier(made)
    assert re.search(rb"csmartaug\.(collate|dataset|loader|reweight\.|coreset\.)", written)
    again = pickle.loads(written)
    assert type(again) is type(made)
    if isinstance(made, smartaug.DataLoader):
        for one, other in zip(made, again, strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])


def test_what_a_coreset_called_its_figures():
    made = observed()
    state = {**made.__dict__, "_told": made._figures}
    del state["_figures"]
    again = smartaug.Coreset.__new__(smartaug.Coreset)
    again.__setstate__(state)
    assert again.stats() == made.stats()
    assert "told" in made.state_dict()  # the name in checkpoints stays


def test_where_a_pipeline_kept_the_selections_of_its_coreset():
    made = smartaug.DataLoader(DATA, batch_size=4, coreset=smartaug.Coreset(0.5), device="cpu", seed=0)
    state = made._pipeline.__getstate__()
    old = state.pop("selecting")
    again = type(made._pipeline).__new__(type(made._pipeline))
    again.__setstate__({**state, "weight_of": old.weight_of, "selections": old.selections})
    assert again.selecting.weight_of == made.sampler.weight_of
    assert again.selecting.coreset is made.coreset


@pytest.mark.parametrize(("scales", "partly"), [(True, "scaled"), (False, "")])
def test_whether_files_were_decoded_smaller(scales, partly):
    fetch = BatchFetch.__new__(BatchFetch)
    fetch.__setstate__({"dataset": DATA, "decoder": "simplejpeg", "scales": scales})
    assert fetch.is_of(DATA, "simplejpeg", partly)
    files = DecodedFiles.__new__(DecodedFiles)
    old = {"where": "main process", "why": "", "scales": scales, "decoded": 5, "scaled": 3 * scales}
    files.__setstate__({"by": "simplejpeg", "by_dataset": Counter(), **old})
    files.add(Files(2, 0, {}))
    assert files.stats() == {"decoded": 7, **({"decoded_scaled": 3} if scales else {}), "decoded_by_dataset": {}}
    assert ("smaller" in files.explain()[0][2]) is scales
    again = pickle.loads(pickle.dumps(files))
    assert again.stats() == files.stats()


def test_a_collate_function_that_did_not_keep_unequal_images():
    state = smartaug.Collate(augment=[smartaug.Flip()]).__getstate__()
    del state["_makes_equal"]
    again = smartaug.Collate.__new__(smartaug.Collate)
    again.__dict__.update(state)
    images, labels = again([DATA[0], DATA[1]])
    assert images.shape == (2, 3, 8, 8)
    assert labels.tolist() == [0, 1]
