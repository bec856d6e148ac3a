"""Small models of every make that the gradients must work with: name -> (model maker, inputs maker)."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.utils import parametrizations


def images(n):
    return torch.randn(n, 2, 6, 6, dtype=torch.float64)


def convolutional(norm, classes=3, dropout=0.0):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(16, classes)
    )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x):
        h = self.layer(self.embed(x.flatten(1, 2)))
        h = h + nn.functional.scaled_dot_product_attention(*self.qkv(h).chunk(3, -1))
        return self.head(h.mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(72, 72), nn.Linear(72, 72), nn.Linear(72, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))


class Dressed(nn.Module):
    """A model that returns its logits inside something, and remembers its last features."""

    def __init__(self, dress, classes=3):
        super().__init__()
        self.body, self.dress, self.last, self.calls = nn.Linear(72, classes), dress, None, 0

    def forward(self, x):
        self.calls += 1
        self.last = self.body(x.flatten(1))
        if self.dress == "tuple":
            return self.last, x
        if self.dress == "dict":
            return {"logits": self.last}
        return SimpleNamespace(logits=self.last) if self.dress == "output" else self.last.squeeze(1)


def frozen():
    model = convolutional(nn.GroupNorm(2, 4))
    model[0].requires_grad_(False)
    return model


def weight_normed():
    return nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(72, 8)), nn.Tanh(), nn.Linear(8, 3))


def read(output):
    """The logits inside whatever these models return."""
    if isinstance(output, dict):
        return output["logits"]
    return output[0] if isinstance(output, tuple) else getattr(output, "logits", output)


MODELS = {
    "batch norm": lambda: convolutional(nn.BatchNorm2d(4)),
    "group norm": lambda: convolutional(nn.GroupNorm(2, 4)),
    "layer norm": lambda: convolutional(nn.LayerNorm([4, 4, 4])),
    "dropout": lambda: convolutional(nn.Identity(), dropout=0.5),
    "attention": Attention,
    "weight norm": weight_normed,
    "tied": Tied,
    "frozen": frozen,
    "tuple": lambda: Dressed("tuple"),
    "dict": lambda: Dressed("dict"),
    "output object": lambda: Dressed("output"),
    "single logit": lambda: Dressed("squeezed", classes=1),
    "single column": lambda: convolutional(nn.BatchNorm2d(4), classes=1),
}


def make(name, training):
    """The model in float64; BatchNorm statistics are off their starting values."""
    model = MODELS[name]().double()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    return model.train(training)
