"""In which precision a recipe's networks are run."""

import torch
from torch import nn

from willis.shared.study import Study


def precision_of(study: Study, network: nn.Module) -> torch.autocast:
    """Return the precision of forward and backward passes; gradients still arrive in float32."""
    device = next(network.parameters()).device
    return torch.autocast(device.type, torch.bfloat16, enabled=study.training.precision == "bfloat16")
