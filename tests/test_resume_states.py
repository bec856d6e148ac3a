"""Whatever is done with a loader, a resumed run goes on as the uninterrupted one: a stateful property test.

Two loaders of the same make get the same calls; one of them is killed now and then and made anew from its state. Each
lives with a global generator of its own. Every batch must be the same, and so must the two epochs after the last call.
"""

import io

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset
from torchvision.transforms import v2

import smartaug

SIZE, BATCH, CLASSES = 10, 3, 3


def pictures():
    return torch.randint(0, 256, (SIZE, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


class Brighter:
    """Stays in the worker under lift=True; draws from the global generator."""

    def __call__(self, image):
        return (image // 2) + torch.randint(0, 100, ()).to(torch.uint8)


class Pictures(Dataset):
    def __init__(self):
        self.images = pictures()
        self.transform = v2.Compose([Brighter(), v2.RandomHorizontalFlip()])

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return self.transform(self.images[index]), index % CLASSES


def shrinking(epoch):
    return (1.0, 0.4, 0.7)[epoch % 3]


def noisy(image):
    return image + torch.rand(image.shape)


def arrays():
    return TensorDataset(pictures(), torch.arange(SIZE) % CLASSES)


def augmented():
    return smartaug.AugmentedDataset(arrays(), noisy, seed=4)


def coreset(kind):
    if kind == "schedule":
        return {"coreset": smartaug.Coreset(shrinking, select=smartaug.coreset.Uniform())}
    return {"coreset": smartaug.coreset.InfoBatch(6, prune=0.5)}


DATA = {
    "arrays": lambda: (arrays(), {"augment": smartaug.Erase(1.0)}),
    "lift": lambda: (Pictures(), {"lift": True, "augment": smartaug.Erase(1.0)}),
    "augmented": lambda: (augmented(), {"augment": lambda images: images}),
}


def build(data, order, workers, own_generator):
    dataset, stages = DATA[data]()
    generator = torch.Generator().manual_seed(8) if own_generator else None
    how = {"shuffle": True}
    if order == "replacement":
        how = {"sampler": RandomSampler(range(SIZE), replacement=True, num_samples=14, generator=generator)}
    elif order in ("schedule", "info_batch"):
        how = {"shuffle": True, **coreset(order)}
    many = {"num_workers": workers[0], "persistent_workers": workers[1]} if workers[0] else {}
    return smartaug.DataLoader(dataset, BATCH, seed=2, generator=generator, **how, **stages, **many)


class Run:
    """A loader, its live iterator, and the global generator it lives with."""

    def __init__(self, loader, rng):
        self.loader, self.rng = loader, rng
        self.iterator, self.peeked = None, []
        self.criterion = smartaug.Loss(torch.nn.CrossEntropyLoss())

    def __call__(self, do):
        torch.set_rng_state(self.rng)
        try:
            return do()
        finally:
            self.rng = torch.get_rng_state()

    def fetch(self):
        """The next batch, (images, indices); None at the end of the pass."""

        def do():
            if self.iterator is None:
                self.iterator = iter(self.loader)
            try:
                return next(self.iterator)
            except StopIteration:
                self.iterator = None
                return None

        batch = self.peeked.pop() if self.peeked else self(do)
        if batch is None:
            return None
        images, target = batch
        logits = torch.stack([target.index.float() * k % 7 for k in range(CLASSES)], 1)
        self.criterion(logits, target)  # what a coreset observes
        return images, target.index.tolist()

    def peek(self):
        """Look whether the pass has more; at its end it is over."""
        if self.iterator is not None and not self.peeked:
            try:
                self.peeked.append(self(lambda: next(self.iterator)))
            except StopIteration:
                self.iterator = None


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Resuming(RuleBasedStateMachine):
    workers = st.just((0, False))

    @initialize(data=st.data())
    def make(self, data):
        drawn = [data.draw(st.sampled_from(names)) for names in (sorted(DATA), ORDERS)]
        self.how = (*drawn, data.draw(self.workers), data.draw(st.booleans()))
        torch.manual_seed(5)
        rng = torch.get_rng_state()
        self.whole, self.killed = Run(build(*self.how), rng), Run(build(*self.how), rng)
        self.broken, self.unbegun = None, False

    def both(self):
        """One batch of each, which must be the same; False at the end of the pass."""
        one, other = self.whole.fetch(), self.killed.fetch()
        self.broken, self.unbegun = None, False
        assert (one is None) == (other is None), "one pass is longer"
        if one is None:
            return False
        assert one[1] == other[1], "other samples"
        assert torch.equal(one[0], other[0]), "other augmentations"
        return True

    @rule(count=st.integers(1, 3))
    def next(self, count):
        for _ in range(count):
            if not self.both():
                break

    @rule()
    def end_of_pass(self):
        while self.both():
            pass

    @precondition(lambda self: not self.unbegun)
    @rule()
    def break_off(self):
        self.broken = self.whole.iterator or self.broken
        self.whole.iterator = self.killed.iterator = None

    @rule(epoch=st.none() | st.integers(0, 9))
    def kill_and_resume(self, epoch):
        if epoch is not None and not self.unbegun:  # said of the pass after this one
            self.set_epoch(epoch)
        state = through_a_file(self.killed(self.killed.loader.state_dict))
        self.killed.iterator, rng = None, self.killed.rng
        if self.whole.iterator is None and not self.whole.peeked:  # a pass that was broken off is gone on with
            self.whole.iterator = self.broken
        self.whole.peek()
        torch.manual_seed(77)
        loader = build(*self.how)
        loader.load_state_dict(state)
        self.killed = Run(loader, rng)
        self.unbegun = self.whole.iterator is not None

    @precondition(lambda self: not self.unbegun)
    @rule(epoch=st.integers(0, 9))
    def name_epoch(self, epoch):
        self.set_epoch(epoch)

    def set_epoch(self, epoch):
        for run in (self.whole, self.killed):
            run(lambda run=run: run.loader.set_epoch(epoch))

    @rule(seed=st.integers(0, 2))
    def reseed(self, seed):
        for run in (self.whole, self.killed):
            run(lambda: torch.manual_seed(seed))

    def teardown(self):
        if hasattr(self, "whole"):
            for _ in range(3):  # the running one, and two more
                self.end_of_pass()
            self.whole = self.killed = self.broken = None  # workers end here, not in a process forked later


ORDERS = ("shuffle", "replacement", "schedule", "info_batch")


class ResumingWithWorkers(Resuming):
    workers = st.sampled_from([(0, False), (2, False), (2, True), (4, True)])


class CountingTorch(RuleBasedStateMachine):
    """torch's own loader around an AugmentedDataset: every sample is of the epoch that was set, else of the next."""

    workers = st.just((0, False))

    @initialize(data=st.data())
    def make(self, data):
        workers, persistent = data.draw(self.workers)
        many = {"num_workers": workers, "persistent_workers": persistent} if workers else {}
        self.dataset, self.reference = augmented(), augmented()
        self.loader = DataLoader(self.dataset, BATCH, shuffle=True, **many)
        self.upcoming, self.epoch, self.iterator = 0, None, None
        self.at_once = workers > 0  # then a pass begins with its iterator, else with its first batch

    @rule(count=st.integers(1, 5))
    def next(self, count):
        if self.iterator is None:
            self.iterator = iter(self.loader)
            self.epoch, self.upcoming = self.upcoming, self.upcoming + 1
        for _ in range(count):
            try:
                images, _ = next(self.iterator)
            except StopIteration:
                self.iterator = None
                return
            self.reference.set_epoch(self.epoch)
            known = [self.reference[index][0] for index in range(SIZE)]
            assert all(any(torch.equal(image, one) for one in known) for image in images), "another epoch's draws"

    @rule()
    def break_off(self):
        self.iterator = None

    @rule(epoch=st.integers(0, 9))
    def set_epoch(self, epoch):
        self.dataset.set_epoch(epoch)
        self.upcoming = epoch

    @rule(seed=st.integers(0, 1))
    def reseed(self, seed):
        torch.manual_seed(seed)


class CountingTorchWithWorkers(CountingTorch):
    workers = st.sampled_from([(2, False), (2, True), (4, True)])


def check(machine, examples, steps):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.filterwarnings("ignore:.*epochs of different lengths")
@pytest.mark.parametrize(("machine", "examples"), [(Resuming, 50), (CountingTorch, 10)])
def test_resumed_equals_uninterrupted(machine, examples):
    check(machine, examples, 12)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore:.*worker processes in total")
@pytest.mark.filterwarnings("ignore:.*epochs of different lengths")
@pytest.mark.parametrize(
    ("machine", "examples"), [(Resuming, 400), (ResumingWithWorkers, 60), (CountingTorchWithWorkers, 30)]
)
def test_resumed_equals_uninterrupted_at_length(machine, examples):
    check(machine, examples, 25)
