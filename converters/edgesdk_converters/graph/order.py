"""Puts nodes into the order that ONNX demands. Half-precision exports of Ultralytics have their casts at the end of the list."""

from __future__ import annotations

import heapq

import onnx

from edgesdk_converters.graph.view import captured


def sort_nodes(model: onnx.ModelProto) -> bool:
    """Order the nodes of the top-level graph so that each comes after those that feed it; in place.

    Nodes keep their order where it is free. A graph with a cycle stays as it is, for the checker to refuse.

    Returns:
        Whether anything was moved.
    """
    nodes = list(model.graph.node)
    made_by = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    followers: list[list[int]] = [[] for _ in nodes]
    waits = [0] * len(nodes)
    for at, node in enumerate(nodes):
        for maker in {made_by[name] for name in (*node.input, *captured(node)) if name in made_by}:
            followers[maker].append(at)
            waits[at] += 1
    ready = [at for at, count in enumerate(waits) if count == 0]
    order: list[int] = []
    while ready:
        at = heapq.heappop(ready)
        order.append(at)
        for follower in followers[at]:
            waits[follower] -= 1
            if waits[follower] == 0:
                heapq.heappush(ready, follower)
    if len(order) < len(nodes) or order == sorted(order):
        return False
    ordered = [onnx.NodeProto.FromString(nodes[at].SerializeToString()) for at in order]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return True
