"""First-order effects of training samples on the validation loss; the only code that calls the user's model.

| file | holds |
|---|---|
| `first_order` | `direction`, `benefit`, `embeddings`, `ForwardPass`: what reweighters and users call |
| `model_call` | the call of the model with other parameter values |
| `tangents` | the derivative of its logits along a direction |
| `untouched` | restores attributes, modes and random generators after a call, bit for bit |
| `last_layer` | the model's last linear layer, of maps its last convolution, and its features |
| `reference` | the user's model, held by reference and left out of copies and pickles |
| `logits` | logits from what a model returns; losses and labels as distributions |
| `pairs` | logits and benefits of pairs, for contrastive losses |
| `positions` | losses and residuals of samples whose labels are maps of classes |
"""

from .first_order import (
    Against,
    ForwardPass,
    Pass,
    Scope,
    benefit,
    call,
    direction,
    embeddings,
    input_gradients,
    outputs,
    push_inputs,
    stepped,
)
from .model_call import Direction
from .tangents import Method

__all__ = [
    "Against",
    "Direction",
    "ForwardPass",
    "Method",
    "Pass",
    "Scope",
    "benefit",
    "call",
    "direction",
    "embeddings",
    "input_gradients",
    "outputs",
    "push_inputs",
    "stepped",
]
