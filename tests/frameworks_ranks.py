"""Two real gloo ranks: ``python -m tests.frameworks_ranks TASK FOLDER`` imports once, forks, and waits for both.

Rank r leaves what its task returned in FOLDER/r.pt, or the text of its error in FOLDER/r.txt.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import torch


def run(task, folder, seconds=240):
    """Run ``task`` in two ranks; returns [result or error text] by rank."""
    command = [sys.executable, "-m", "tests.frameworks_ranks", task, str(folder)]
    root = Path(__file__).parents[1]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds)
    results = []
    for rank in range(2):
        result, error = Path(folder, f"{rank}.pt"), Path(folder, f"{rank}.txt")
        assert result.exists() or error.exists(), done.stderr[-3000:]
        results.append(torch.load(result, weights_only=True) if result.exists() else error.read_text())
    return results


def dispatcher(folder, split):
    """A sharded loader (seedable when ``split``), `wrap` around the dispatcher, and stages inside it: an error."""
    import accelerate
    from accelerate.data_loader import prepare_data_loader
    from accelerate.utils import DataLoaderConfiguration

    import smartaug
    from tests.frameworks import Coded, CodedStream, read, read_pass, stages

    settings = DataLoaderConfiguration(split_batches=split, dispatch_batches=True)
    run = accelerate.Accelerator(cpu=True, dataloader_config=settings)
    # no seed in common but a seedable sampler's: Accelerate must be able to give the ranks one order
    torch.manual_seed(1 if split else run.process_index)
    loader = smartaug.DataLoader(Coded(), batch_size=4, shuffle=True, augment=stages(), seed=0)
    prepared = prepare_data_loader(
        loader, run.device, put_on_device=True, rng_types=["generator"], use_seedable_sampler=split
    )
    torch.save([read_pass(prepared) for _ in range(2)], Path(folder, f"sharded{run.process_index}.pt"))

    stock = torch.utils.data.DataLoader(CodedStream(16), batch_size=4)
    wrapped = smartaug.wrap(run.prepare(stock), augment=stages(), seed=0)
    seen = [sample for images, target in wrapped for sample in read(images)]
    torch.save(seen, Path(folder, f"wrapped{run.process_index}.pt"))
    run.wait_for_everyone()
    for _ in run.prepare(smartaug.DataLoader(CodedStream(16), batch_size=4, augment=stages(), seed=0)):
        pass


def dispatch(folder):
    return dispatcher(folder, split=False)


def dispatch_split(folder):
    return dispatcher(folder, split=True)


def lightning_ddp(folder):
    """Two epochs of Lightning's DDP, which puts a DistributedSampler into the loader it rebuilds."""
    import smartaug
    from tests.frameworks import Coded, stages
    from tests.test_frameworks_lightning import Saving, Watching, trainer

    torch.manual_seed(0)
    path = Path(folder, "mid.ckpt")
    results = {}
    for name, resumed in (("whole", None), ("rest", path)):
        loader = smartaug.DataLoader(Coded(), batch_size=4, shuffle=True, num_workers=1, augment=stages(), seed=0)
        model, saving = Watching(), [Saving(path, 1, 2)] if resumed is None else []
        run = trainer(folder, max_epochs=3, strategy="ddp", devices=2, callbacks=saving)
        run.fit(model, loader, ckpt_path=resumed, weights_only=True)
        results[name] = {
            "seen": model.seen,
            "sampler": type(run.train_dataloader.sampler).__name__,
            "samples": loader.stats()["samples"],
            "weight": model.net[1].weight.detach(),
        }
    return results


def lightning_coresets(folder):
    from tests.coreset_ranks import lightning_coresets

    return lightning_coresets(folder)


TASKS = {task.__name__: task for task in (dispatch, dispatch_split, lightning_ddp, lightning_coresets)}


def _rank(rank, port, task, folder):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "smartaug"}
    try:
        torch.save(TASKS[task](folder), Path(folder, f"{rank}.pt"))
    except BaseException:
        Path(folder, f"{rank}.txt").write_text(traceback.format_exc())
    finally:
        os._exit(0)  # the other rank may wait for a collective that never comes


def main(task, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    import smartaug  # noqa: F401  (once, before the fork)

    if task.startswith("lightning"):
        import tests.test_frameworks_lightning  # noqa: F401
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_rank, args=(rank, port, task, folder)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
