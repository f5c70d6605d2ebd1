"""A network cut in two at the end of a stage: what is kept as it is, and what is trained.

The cut is made in the graph of operations (torch.fx), so that it fits any network whose stages pass one
tensor on, and the parts share their weights with the network. Knows no particular network.
"""

import torch
from torch import fx
from torch.nn.modules.batchnorm import _BatchNorm

from training.backbones.backbone import Backbone
from training.errors import FinetuneError


def traced(network: torch.nn.Module) -> fx.GraphModule:
    """The operations of a network in evaluation mode, as one graph."""
    return fx.symbolic_trace(network.eval())


def cut_after(network: torch.nn.Module, path: str) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut after the submodule `path`.

    Returns
    -------
    first, rest : rest(first(pixels)) is network(pixels); their weights are the network's own

    Raises
    ------
    FinetuneError
        If more than the output of `path` is needed after it.
    """
    whole = traced(network)
    nodes = list(whole.graph.nodes)
    inside = [index for index, node in enumerate(nodes) if _is_inside(node, path)]
    if not inside:
        raise FinetuneError(f"the network has no stage at {path}")
    end = inside[-1]
    first, rest = fx.Graph(), fx.Graph()
    before: dict[fx.Node, fx.Node] = {}
    for node in nodes[: end + 1]:
        before[node] = first.node_copy(node, before.__getitem__)
    first.output(before[nodes[end]])
    after = {nodes[end]: rest.placeholder("activations")}
    for node in nodes[:end]:
        if _is_batch_size(node):  # the same for every tensor of the network
            after[node] = rest.call_method("size", (after[nodes[end]], 0))
    try:
        for node in nodes[end + 1 :]:
            after[node] = rest.node_copy(node, after.__getitem__)
    except KeyError as error:
        raise FinetuneError(f"the network cannot be cut after {path}: {error} is used later, too") from None
    return fx.GraphModule(whole, first), fx.GraphModule(whole, rest)


def stage_paths(backbone: Backbone) -> dict[str, str]:
    """The stages after which a backbone can be cut, by name, first to last."""
    return {point.name: point.path for point in backbone.taps}


def batch_normalisations(module: torch.nn.Module) -> list[_BatchNorm]:
    """The layers that keep statistics of what they have seen."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]


def _is_inside(node: fx.Node, path: str) -> bool:
    stack = node.meta.get("nn_module_stack") or {}
    return any(name == path for name, _ in stack.values()) or path in stack or node.target == path


def _is_batch_size(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "size" and tuple(node.args[1:]) == (0,)
