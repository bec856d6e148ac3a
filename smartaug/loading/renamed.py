"""The new names of modules that were renamed, so that pickles and checkpoints with the old names still load.

Pickle finds a class by its module's name. `install` adds a finder to `sys.meta_path`. For an old name it gives a
stand-in module, whose attributes are read from the modules that hold them now. Those are imported at the first access.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = __name__.partition(".")[0]
RENAMED = {  # old module name -> the modules, separated by spaces, that hold its contents now
    "_base.nested": "loading.nested",
    "_base.tensor_calls": "_base.row_extras.calls",
    "augment.augmix": "augment.ops.augmix",
    "augment.autoaugment": "augment.ops.autoaugment",
    "augment.backends.numba_clahe": "augment.backends.numba.clahe",
    "augment.backends.numba_cubic": "augment.backends.numba.cubic",
    "augment.backends.numba_memory": "augment.backends.numba.memory",
    "augment.backends.numba_noise": "augment.backends.numba.noise",
    "augment.backends.numba_run": "augment.backends.numba.program",
    "augment.backends.numba_tone": "augment.backends.numba.tone",
    "augment.backends.numba_warp": "augment.backends.numba.warp",
    "augment.backends.torch_clahe": "augment.backends.torch.clahe",
    "augment.backends.torch_filter": "augment.backends.torch.filter",
    "augment.backends.torch_tone": "augment.backends.torch.tone",
    "augment.backends.torch_warp": "augment.backends.torch.warp",
    "augment.backends.triton_launch": "augment.backends.triton.launch",
    "augment.backends.triton_memory": "augment.backends.triton.memory",
    "augment.backends.triton_pixels": "augment.backends.triton.pixels",
    "augment.backends.triton_program": "augment.backends.triton.program",
    "augment.backends.triton_tone": "augment.backends.triton.tone",
    "augment.backends.triton_warp": "augment.backends.triton.warp",
    "augment.choose": "augment.ops.combinators",
    "augment.compose": "augment.ops.compose",
    "augment.crops": "augment.ops.flips_crops",
    "augment.cubic": "augment.backends.tables.cubic",
    "augment.gauss": "augment.backends.tables.gauss",
    "augment.geometry": "augment.ops.geometry",
    "augment.lab": "augment.backends.tables.lab",
    "augment.mix": "augment.ops.mix",
    "augment.policies": "augment.ops.policies",
    "augment.rectangles": "augment.ops.rectangles",
    "augment.space": "augment.ops.space",
    "augment.tone": "augment.ops.tone",
    "batch_fetch": "loading.whole_batches",
    "cli.bench_report": "cli.bench.report",
    "cli.bench_run": "cli.bench.measurement",
    "cli.demo_picture": "cli.demo.picture",
    "cli.inspect_own": "cli.inspect.own",
    "cli.machine": "cli.bench.machine",
    "cli.parity": "cli.bench.parity",
    "cli.rebuilt": "cli.bench.rebuilt",
    "cli.step": "cli.bench.step",
    "cli.task": "cli.demo.task",
    "collate": "loading.collate",
    "coreset.costs": "coreset.greedy.costs",
    "coreset.greedy_numba": "coreset.greedy.numba",
    "coreset.greedy_torch": "coreset.greedy.torch",
    "coreset.uniform": "coreset.random_subset",
    "dataset": "loading.augmented.dataset",
    "demo": "cli.demo.command",
    "fetch": "_base.torch_fetch pipeline.epochs",
    "grads.model_reference": "grads.reference",
    "grads_call": "grads.model_call",
    "grads_tangents": "grads.tangents",
    "head": "grads.last_layer",
    "inspect": "cli.inspect.command",
    "labels": "_base.labels",
    "leaves": "_base.leaves",
    "lift.albumentations.geometry_ops": "lift.albumentations.ops.geometry",
    "lift.albumentations.tone_ops": "lift.albumentations.ops.tone",
    "lift.albumentations_geometry": "lift.albumentations.geometry",
    "lift.albumentations_head": "lift.albumentations.worker_half",
    "lift.albumentations_values": "lift.albumentations.values",
    "lift.collecting": "lift.deferred.collecting",
    "lift.deferred_value": "lift.deferred.values",
    "lift.head": "lift.worker_transform",
    "lift.kornia_targets": "lift.kornia.targets",
    "lift.made_places": "lift.deferred.places",
    "lift.opencv_geometry": "lift.albumentations.ops.geometry",
    "lift.opencv_rows": "augment.backends.opencv.rows",
    "lift.opencv_tone": "lift.albumentations.ops.tone",
    "lift.perspective": "lift.torchvision.perspective",
    "lift.rest": "lift.deferred.rest",
    "lift.timm_ops": "lift.timm.ops",
    "lift.torchvision_geometry": "lift.torchvision.geometry",
    "lift.torchvision_values": "lift.torchvision.values",
    "lift.typed_deferred": "lift.deferred.typed",
    "loader": "loading.dataloader",
    "loader_coreset": "loading.keywords.coreset",
    "loader_iterator": "loading.iterator",
    "loader_lift": "loading.keywords.lift",
    "loader_state": "loading.resume",
    "loading.augmented_dataset": "loading.augmented.dataset",
    "loading.coreset_keyword": "loading.keywords.coreset",
    "loading.lift_keyword": "loading.keywords.lift",
    "loading.per_sample": "loading.augmented.per_sample",
    "loading.repeats": "loading.augmented.repeats",
    "loading.sampler": "loading.samplers.coreset",
    "loading.sampler_settings": "loading.samplers.settings",
    "loading.share_sampler": "loading.samplers.share",
    "loading.shared_epoch": "loading.augmented.shared_epoch",
    "logits": "grads.logits",
    "notices": "warnings",
    "order": "loading.order",
    "per_sample": "loading.augmented.per_sample",
    "pipeline.addresses": "pipeline.following.addresses",
    "pipeline.augment_stage": "pipeline.augmenting.stage",
    "pipeline.criterion_arguments": "pipeline.losses.arguments",
    "pipeline.followers": "pipeline.following.followers",
    "pipeline.image_lists": "pipeline.augmenting.image_lists",
    "pipeline.lifted_joint": "pipeline.lifted.joint",
    "pipeline.lifted_share": "pipeline.lifted.share",
    "pipeline.moving_maps": "pipeline.following.maps",
    "pipeline.moving_objects": "pipeline.following.objects.moving",
    "pipeline.object_leaves": "pipeline.following.objects.leaves",
    "pipeline.object_rows": "pipeline.following.objects.rows",
    "pipeline.object_values": "pipeline.following.objects.values",
    "pipeline.pictures": "pipeline.following.pictures",
    "pipeline.places": "pipeline.following.places",
    "pipeline.row_losses": "pipeline.losses.rows",
    "pipeline.unknown_criteria": "pipeline.losses.unknown",
    "pipeline_augment": "pipeline.augmenting.augmenting",
    "pipeline_inputs": "pipeline.inputs",
    "pipeline_reweight": "pipeline.weighing",
    "plots": "cli.plots",
    "ranks": "_base.ranks",
    "reweight.asked": "reweight.batch_gradients",
    "reweight.uniform": "reweight.uniform_weights",
    "sampler": "loading.samplers.coreset",
    "selection": "pipeline.selection",
    "shared_epoch": "loading.augmented.shared_epoch",
    "side_stream": "loading.copy_ahead",
    "stages": "pipeline.stages",
    "untouched": "grads.untouched",
    "wrapped": "loading.wrap",
}


class _StandIn(ModuleType):
    """A module under its old name. Its attributes are those of the modules in `RENAMED`."""

    def __getattr__(self, name: str) -> object:
        if not name.startswith("__"):
            for new in RENAMED[self.__name__.removeprefix(f"{_PACKAGE}.")].split():
                module = importlib.import_module(f"{_PACKAGE}.{new}")
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a stand-in for an old name; None for every other name."""
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == _PACKAGE and name in RENAMED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty stand-in module."""
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: a stand-in has no code."""


def install() -> None:
    """Make the old names importable. Repeated calls have no further effect."""
    if not any(
        type(finder).__name__ == _Finder.__name__ and type(finder).__module__ == __name__ for finder in sys.meta_path
    ):
        sys.meta_path.append(_Finder())
