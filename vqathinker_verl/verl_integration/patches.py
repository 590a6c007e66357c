"""Patches of verl that every platform needs.

Each names the verl version it is for, and has a test that fails when verl no longer needs it
(tests/verl_integration/test_patches.py).
"""

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensordict import TensorDict


def keep_layout_of_position_ids(tensordict_utils: ModuleType) -> None:
    """Make `maybe_fix_3d_position_ids` check the layout before it labels it.

    For verl 0.9.1 (issue #7899, open pull request #7901). The position ids of one sequence are (C, L): C mRoPE
    components, L tokens. torch packs a batch of them as values (C, sum L), unless all L are equal (a batch of one
    included): then it takes C for the ragged dimension and packs values (B * C, L). verl labels both as the first, and
    the next `unbind()` raises. Answers of equal length are the rule for a policy that writes a fixed format.

    Args:
        tensordict_utils: the module `verl.utils.tensordict_utils`, before others import the function from it.
    """
    tensordict_utils.maybe_fix_3d_position_ids = fix_3d_position_ids


def fix_3d_position_ids(data: "TensorDict") -> None:
    """Give nested 3-D `position_ids` of `data` the layout values (C, sum L), ragged dimension 2, in place."""
    import torch

    if "position_ids" not in data.keys():
        return
    position_ids = data["position_ids"]
    if not position_ids.is_nested or position_ids.dim() != 3:
        return
    values, offsets = position_ids.values(), position_ids.offsets()
    components_are_ragged = values.shape[0] == int(offsets[-1])
    if components_are_ragged:
        batch_size, length = len(offsets) - 1, values.shape[1]
        values = values.reshape(batch_size, -1, length).transpose(0, 1).reshape(-1, batch_size * length)
        offsets = torch.arange(batch_size + 1, device=offsets.device, dtype=offsets.dtype) * length
        position_ids = torch.nested.nested_tensor_from_jagged(values, offsets)
        data["position_ids"] = position_ids
    data["position_ids"]._ragged_idx = 2
