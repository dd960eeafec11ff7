"""SharedWeights: the largest tensor of everything that networks of a space share, and slices of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from hwnas.data.randomness import isolated
from hwnas.errors import UsageError
from hwnas.nn import build
from hwnas.nn.blocks import open_branches
from hwnas.nn.network import build_op
from hwnas.space import ArchSpec, Head, SearchSpace, Stage, StageSpace, Stem, lower
from hwnas.supernet.slices import Piece, op_pieces, pieces, shared_place

__all__ = [
    "SharedWeights",
    "SubnetCache",
    "empty_network",
]


class SharedWeights(nn.Module):
    """The parameters of all subnets of a space; each subnet has a slice of some of them.

    A subnet's weights are copied out of it (`subnet_state_dict`, `load_into`), and the gradients of its
    backward pass are added to those of its slices (`add_gradients`). So a subnet is built by `hwnas.nn` as
    any other network, and knows nothing of sharing. It has parameters and no forward pass.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """`tensors` by slot, as `hwnas.supernet.slices` names them."""
        super().__init__()
        for name, tensor in tensors.items():
            # not register_parameter: it refuses names with dots, which state_dict() gives as they are
            self._parameters[name] = nn.Parameter(tensor)

    @property
    def tensors(self) -> dict[str, nn.Parameter]:
        """The parameters by slot, in the order of `fresh`."""
        return cast(dict[str, nn.Parameter], self._parameters)

    @classmethod
    def fresh(cls, space: SearchSpace, *, seed: int, branch_weight: float = 0.0) -> SharedWeights:
        """Weights for all networks of `space`, initialised as those of its largest ones are, but for the
        weight of the BatchNorms that end their branches: `branch_weight`."""
        archs = list(_widest(space))
        extents: dict[str, tuple[int, ...]] = {}
        for arch in archs:
            for _, _, some in pieces(arch):
                for piece in some:
                    known = extents.get(piece.slot, (0,) * len(piece.extent))
                    extents[piece.slot] = tuple(map(max, known, piece.extent))
        with isolated(seed, "shared weights"), torch.no_grad():
            tensors = {slot: _initial(shape) for slot, shape in extents.items()}
            copied: set[tuple[str, str]] = set()
            for arch in archs:
                for op in lower(arch):
                    if (shared_place(op, arch), op.key) not in copied:
                        copied.add((shared_place(op, arch), op.key))
                        _copy_in(open_branches(build_op(op), branch_weight), op_pieces(op, arch), tensors)
        return cls(tensors)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.tensors.values())).device

    @torch.no_grad()
    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Copies the values of all slots; raises RuntimeError when slots or shapes differ."""
        own = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        given = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
        if own != given:
            different = sorted(dict(own.items() ^ given.items()))
            raise RuntimeError(f"{len(different)} shared tensors differ, '{different[0]}' first")
        for name, tensor in self.tensors.items():
            tensor.copy_(state_dict[name])

    def lacks(self, arch: ArchSpec) -> tuple[str, ...]:
        """What the network needs and these weights do not have; empty where it can be cut from them."""
        missing = []
        for name, _, some in pieces(arch):
            for piece in some:
                shared = self.tensors.get(piece.slot)
                if shared is None:
                    missing.append(f"{name}: nothing is shared for it")
                elif any(need > have for need, have in zip(piece.extent, shared.shape, strict=True)):
                    missing.append(f"{name}: needs {piece.extent}, there is {tuple(shared.shape)}")
        return tuple(missing)

    def require(self, arch: ArchSpec) -> None:
        """Raises UsageError when the network cannot be cut from these weights."""
        missing = self.lacks(arch)
        if missing:
            raise UsageError(
                f"the network is not in the space of the supernet: got {arch.id} with "
                f"{len(missing)} parameters that it does not share; the first: {missing[0]}"
            )

    def subnet_state_dict(self, arch: ArchSpec) -> dict[str, torch.Tensor]:
        """Copies of the network's parameters by the names of `hwnas.nn.build(arch)`.

        BatchNorm's running statistics are not among them: they belong to one network, see
        `hwnas.supernet.evaluator`. Raises UsageError as `require`.
        """
        self.require(arch)
        return {
            name: torch.cat([piece.of(self.tensors[piece.slot].detach()) for piece in some]).reshape(shape)
            for name, shape, some in pieces(arch)
        }

    @torch.no_grad()
    def load_into(self, network: nn.Module, arch: ArchSpec) -> None:
        """Copies the weights of `arch` into its network."""
        parameters = dict(network.named_parameters())
        for name, _, some in pieces(arch):
            for piece, part in _split(parameters[name], some):
                part.copy_(piece.of(self.tensors[piece.slot]))

    @torch.no_grad()
    def add_gradients(self, network: nn.Module, arch: ArchSpec) -> None:
        """Adds the gradients of the network of `arch` to those of the slices it was cut from.

        A tensor that no network of a step was cut from keeps the gradient None, so that an optimiser
        leaves it alone.
        """
        parameters = dict(network.named_parameters())
        for name, _, some in pieces(arch):
            gradient = parameters[name].grad
            if gradient is None:
                continue
            for piece, part in _split(gradient, some):
                shared = self.tensors[piece.slot]
                if shared.grad is None:
                    shared.grad = torch.zeros_like(shared)
                piece.of(shared.grad).add_(part)


def _split(values: torch.Tensor, some: tuple[Piece, ...]) -> Iterator[tuple[Piece, torch.Tensor]]:
    """Each piece with its part of a parameter (a view of it), in the piece's shape."""
    start = 0
    for piece in some:
        shape = tuple(count for _, count in piece.ranges)
        part = values.narrow(0, start, shape[0])
        yield piece, part.view(shape) if part.ndim != len(shape) else part
        start += shape[0]


def _initial(shape: tuple[int, ...]) -> torch.Tensor:
    """What stands where no largest network reaches, between the squares that heads cut from a matrix."""
    tensor = torch.zeros(shape)
    if len(shape) == 4:
        nn.init.kaiming_uniform_(tensor, a=5**0.5)
    return tensor


def _copy_in(
    module: nn.Module,
    of_module: Iterable[tuple[str, tuple[int, ...], tuple[Piece, ...]]],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    parameters = dict(module.named_parameters())
    for name, _, some in of_module:
        for piece, values in _split(parameters[name], some):
            piece.of(tensors[piece.slot]).copy_(values)


def _widest(space: SearchSpace) -> Iterator[ArchSpec]:
    """Networks of which some has the largest of every tensor: each attention, each layout, each image size
    and stride at full depth, in the widest stages that they fit."""
    layouts = max(len(stage.layout) for stage in space.stages)
    options = max(len(stage.attention) for stage in space.stages)
    for resolution, stride, layout, option in itertools.product(
        space.resolution, space.stem_stride, range(layouts), range(-1, options)
    ):
        yield ArchSpec(
            stages=tuple(_widest_stage(stage, layout, option) for stage in space.stages),
            resolution=resolution,
            stem=Stem(stride=stride),
            head=Head(classes=space.classes),
        )


def _widest_stage(stage: StageSpace, layout: int, option: int) -> Stage:
    """The stage with one attention throughout; option -1 is whichever fits the largest width."""
    name = stage.layout[layout % len(stage.layout)]
    number = option % len(stage.attention)
    fitting = [width for width in stage.width if number in stage.allowed(width, name)] if option >= 0 else []
    width = max(fitting, default=max(stage.width))
    if not fitting:
        number = stage.allowed(width, name)[0]
    attention = stage.attention[number].fitted(width)
    return Stage(
        width=width,
        blocks=(attention,) * max(stage.depth),
        layout=name,
        ffn_ratio=max(stage.ffn_ratio),
    )


# --- subnets: ordinary networks of `hwnas.nn`, made without initialising ----------------------

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Images (B, 3, R, R) to logits (B, classes)."""


def empty_network(arch: ArchSpec, device: torch.device | str = "cpu") -> nn.Module:
    """The network of `arch` with whatever numbers its memory held, and fresh statistics of BatchNorm.

    Made where it runs; nothing is drawn for it, so that no generator of random numbers moves.
    """
    with torch.device(device), _NothingDrawn():
        network: nn.Module = build(arch)
    return network.to(memory_format=torch.channels_last)


class _NothingDrawn(TorchFunctionMode):
    """Within it, what `torch.nn.init` is given stays as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class SubnetCache:
    """Networks with the shared weights as they are now.

    Those that come up again and again, as the largest and the smallest ones do, stay built, and are
    compiled once if asked for.
    """

    def __init__(
        self, weights: SharedWeights, *, recurring: Iterable[ArchSpec] = (), compile: bool = False
    ) -> None:
        self.weights = weights
        self._compile = compile
        self._recurring = {arch.id for arch in recurring}
        self._built: dict[str, tuple[nn.Module, Forward]] = {}

    def network(self, arch: ArchSpec) -> tuple[nn.Module, Forward]:
        """The network of `arch`, on the weights' device, with copies of their present values; and what
        runs it.

        It is in train mode. Raises UsageError for a network that cannot be cut from the weights.
        """
        found = self._built.get(arch.id)
        if found is None:
            self.weights.require(arch)
            network = empty_network(arch, self.weights.device)
            lasts = arch.id in self._recurring
            forward = cast(Forward, torch.compile(network) if lasts and self._compile else network)
            found = network.train(), forward
            if lasts:
                self._built[arch.id] = found
        self.weights.load_into(found[0], arch)
        return found
