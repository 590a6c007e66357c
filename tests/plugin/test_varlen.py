"""The vision tower's attention over all windows at once is that of one window after the other."""

import subprocess
import sys

import pytest
import torch
from torch.nn.attention import varlen
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as modeling
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig

from vqathinker_verl.plugin.varlen import FIELD, attend_by_varlen


def by_block_mask(queries, keys, values, cu_seq_q, cu_seq_k, max_q, max_k, *, scale):
    """What the kernel computes, by its documentation, on any device: (tokens, heads, head size)."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert max_q == max_k == int((cu_seq_q[1:] - cu_seq_q[:-1]).max())
    assert queries.dtype == keys.dtype == values.dtype
    window = torch.bucketize(torch.arange(len(queries)), cu_seq_q[1:].long(), right=True)
    scores = torch.einsum("qhd,khd->hqk", queries, keys) * scale
    scores = scores.masked_fill(window[:, None] != window[None], -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), values)


@pytest.fixture(autouse=True, scope="module")
def patched():
    stock = modeling.Qwen2_5_VLVisionAttention.forward
    attend_by_varlen(modeling)
    yield
    modeling.Qwen2_5_VLVisionAttention.forward = stock


def tower(switch, *, window_size=56):
    torch.manual_seed(0)
    config = Qwen2_5_VLVisionConfig(
        depth=4, hidden_size=64, num_heads=4, intermediate_size=96, out_hidden_size=48, window_size=window_size,
        fullatt_block_indexes=[1, 3],
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    setattr(config, FIELD, switch)
    return modeling.Qwen2_5_VisionTransformerPretrainedModel(config)


def features(model, grids):
    grid = torch.tensor(grids)
    torch.manual_seed(1)
    patches = torch.randn(int(grid.prod(1).sum()), 3 * 2 * 14 * 14)
    return model(patches, grid_thw=grid).last_hidden_state


@pytest.mark.parametrize("grids", [[[3, 8, 12]], [[3, 10, 6], [1, 8, 8], [2, 6, 14]]], ids=["one", "mixed"])
def test_features_and_gradients_are_those_of_sdpa(monkeypatch, grids):
    """The kernel itself needs a GPU: its place is taken by a mask over one attention."""
    calls = []
    monkeypatch.setattr(varlen, "varlen_attn", lambda *args, **more: calls.append(1) or by_block_mask(*args, **more))
    results = []
    for switch in (False, True):
        model = tower(switch)
        found = features(model, grids)
        found.square().sum().backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        assert "blocks.0.attn.qkv.weight" in gradients
        results.append((found, gradients))
    assert len(calls) == 4  # one per layer, where sdpa takes one per window and layer
    (stock, stock_gradients), (ours, gradients) = results
    assert torch.allclose(ours, stock, atol=1e-5, rtol=1e-5)
    for name, gradient in stock_gradients.items():
        assert torch.allclose(gradients[name], gradient, atol=1e-5 * gradient.abs().max().clamp(min=1)), name


def test_it_is_off_unless_asked_for(monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", lambda *args, **more: pytest.fail("called"))
    model = tower(False)
    delattr(model.config, FIELD)
    features(model, [[1, 4, 4]])


def test_the_plugin_installs_it_and_verls_config_reaches_it():
    code = (
        "import vqathinker_verl.plugin.register\n"
        "from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as m\n"
        "from transformers import Qwen2_5_VLConfig\n"
        "from verl.utils.model import update_model_config\n"
        "config = Qwen2_5_VLConfig(); update_model_config(config, {'vision_config': {'varlen_attention': True}})\n"
        "print(hasattr(m.Qwen2_5_VLVisionAttention.forward, '__wrapped__'), config.vision_config.varlen_attention)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split()[-2:] == ["True", "True"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch's varlen kernel runs on a GPU alone")
def test_the_kernel_on_a_gpu():
    grid = torch.tensor([[3, 10, 6], [1, 8, 8]])
    patches = torch.randn(int(grid.prod(1).sum()), 3 * 2 * 14 * 14)
    results = []
    for switch in (False, True):
        model = tower(switch).to("cuda", torch.bfloat16)
        found = model(patches.to("cuda", torch.bfloat16), grid_thw=grid.cuda()).last_hidden_state
        results.append(found.float())
    assert torch.allclose(*results, atol=0.05, rtol=0.05)
