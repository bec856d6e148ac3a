"""Learned weights do what they are for, in a short run on handwritten digits."""

from benchmarks import learning, policy

BENIGN = ("Identity", "Twin", "Shift", "Darker", "Noise", "Erase")


def test_saflex_withstands_flipped_labels():
    data = learning.digits(0)
    plain, more, ours = (
        learning.run(name, data, 0, epochs=20, lr=0.1) for name in ("plain", "plain + validation data", "SAFLEX")
    )
    assert ours.accuracy >= plain.accuracy + 4
    assert ours.accuracy >= more.accuracy - 1
    assert ours.auroc >= 97


def test_metaaugment_draws_swapped_images_less_often():
    found = dict(zip(policy.OPERATIONS, policy.shares(0, steps=300), strict=True))
    assert found["Swap"] <= 0.6
    assert found["Swap"] < min(found[name] for name in BENIGN)
    assert found["Twin"] >= 0.8
