"""Where the layers of a model go that is larger than one device: device maps, read, made and checked.

Weights are read onto their devices by transformers. What belongs to no layer (embeddings, final norm, unembedding) lies
on the main device, with all that the engine keeps; `acdc_engine.model.placed` has the rest.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from acdc_engine import ranks
from acdc_engine.errors import DeviceError, nearest
from acdc_engine.model.devices import accelerator_bytes, parse_bytes, pick_device

DeviceMap = str | Path | Mapping[str, Any]
"""One of `SPREADS`, the path of a JSON file, or devices by names of modules."""
SPREADS = ("auto", "balanced", "sequential")
_USABLE = 0.9
"""Share of a device's memory that weights may take; `Room.on` asks for as much."""
_REMEDY = "Use --dtype bfloat16 (half the size of float32), more or larger devices, or --device cpu"


def read_device_map(given: DeviceMap) -> str | dict[str, str]:
    """A name of `SPREADS`, or names of devices by names of modules; all of these devices are there.

    Raises:
        DeviceError: It is neither, cannot be read, or names the disk or a device that is not there.
    """
    if isinstance(given, str) and given in SPREADS:
        return given
    found: Any = _from_file(Path(given)) if isinstance(given, str | Path) else given
    if not isinstance(found, Mapping) or not found or not all(isinstance(part, str) for part in found):
        raise DeviceError(
            f'A device map has devices by names of modules, such as {{"model.layers.0": "cuda:1"}}, not {found!r}.'
        )
    return {part: _device_name(part, device) for part, device in found.items()}


def _from_file(path: Path) -> Any:
    if path.suffix.lower() != ".json":
        raise DeviceError(f"Unknown device map {str(path)!r}.{nearest(str(path), SPREADS)} Or give a JSON file.")
    try:
        return json.loads(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else f"no JSON, {error}"
        raise DeviceError(f"Cannot read the device map {path}: {why}.") from error


def _device_name(part: str, device: Any) -> str:
    """How torch calls a device; numbers are those of CUDA."""
    name = f"cuda:{device}" if type(device) is int else str(device)
    what = f"the module {part!r}" if part else "the whole model"
    if name.partition(":")[0] in ("disk", "meta"):
        raise DeviceError(
            f"The device map puts {what} on {name!r}, and weights that are not in memory cannot be computed with. Put "
            f'it on "cpu" or another device. {_REMEDY}.'
        )
    try:
        if name != "auto":
            return str(_numbered(pick_device(name)))
    except DeviceError:
        pass
    raise DeviceError(
        f"The device map puts {what} on {name!r}, and no such device is here. Devices here: {', '.join(_here())}."
    )


def _here() -> list[str]:
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]


def _numbered(device: torch.device) -> torch.device:
    """The device as tensors on it name it: CUDA's with a number."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())


def placed(
    config: Any, name: str, dtype: torch.dtype, given: DeviceMap, device: str = "auto", memory: str | None = None
) -> dict[str, str]:
    """Decides where every part of a model goes, before any of its weights are read.

    Args:
        config: Its configuration.
        name: What messages call it.
        dtype: Number format of the weights.
        given: The map. "auto" and "balanced" give all accelerators of the main device's kind about as much,
            "sequential" fills one after the other; both go on with the CPU where they are full.
        device: The main device; "auto": that of the unembedding, where a map names it, or else as `pick_device` says.
        memory: What everything may take on the main device, or None for all of it; for maps that are made here.

    Returns:
        Devices by names of modules, as transformers takes them: every weight is in one of them. What is in no layer is
        on the main device.

    Raises:
        DeviceError: A layer would be nowhere, in two places or on the disk, or the map names what is not there.
    """
    if ranks.size() > 1:
        raise DeviceError(
            f"A device map spreads the model of one process over all devices, and this run has {ranks.size()} "
            "processes. Start one process, or leave out --device-map."
        )
    model = _Skeleton(config, name, dtype)
    asked = read_device_map(given)
    main = _numbered(pick_device(device))
    if isinstance(asked, str):
        devices = _spread_out(model, main, asked != "sequential", memory)
    else:
        devices = _looked_up(model, asked)
        head = _device_of(model.head, asked)
        main = torch.device(head) if device == "auto" and head is not None else main
    layers = {f"{model.stack}.{place}": device for place, device in enumerate(devices)}
    return {**dict.fromkeys(model.rest, str(main)), **layers}


class _Skeleton:
    """A model without its weights, made from a configuration on torch's meta device.

    Attributes:
        name: What messages call it; `size` says how large it is.
        names: Of all its modules and weights.
        stack: Name of the list of layers; `head` of the unembedding.
        layers: Bytes of every layer; `weights` has the names of its weights.
        rest: Names of modules and weights that are in no layer, and not around them.
        other_bytes: Of what is in no layer.
    """

    def __init__(self, config: Any, name: str, dtype: torch.dtype) -> None:
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
        wanted, modules = int(config.get_text_config().num_hidden_layers), dict(model.named_modules())
        stacks = [path for path, one in modules.items() if isinstance(one, nn.ModuleList) and len(one) == wanted]
        if not stacks:
            raise DeviceError(
                f"Model {name!r} ({type(model).__name__}) has no list of {wanted} layers that a device map could "
                "spread. Leave out --device-map."
            )
        self.name, self.stack, layers = name, stacks[0], list(modules[stacks[0]].children())
        self.names = {*modules, *(weight for weight, _ in _tensors(model))}
        head, whole = model.get_output_embeddings(), _bytes(model)
        self.head = next((path for path, one in modules.items() if one is head), "")
        self.size = f"{whole / 1e9:.2f} GB as {str(dtype).removeprefix('torch.')}"
        self.layers, self.rest = list(map(_bytes, layers)), _beside(model, self.stack)
        self.weights = [
            [f"{self.stack}.{place}.{weight}" for weight, _ in _tensors(one)] for place, one in enumerate(layers)
        ]
        self.other_bytes = whole - sum(self.layers)


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _bytes(module: nn.Module) -> int:
    return sum(one.numel() * one.element_size() for _, one in _tensors(module))


def _beside(model: nn.Module, stack: str) -> list[str]:
    """Names of the parts that lie beside the stack, and beside what is around it."""
    found, module, path = list[str](), model, ""
    for step in stack.split("."):
        own = [*(name for name, _ in module.named_children()), *module._parameters, *module._buffers]
        found += [f"{path}{name}" for name in own if name != step]
        module, path = getattr(module, step), f"{path}{step}."
    return found


def _device_of(weight: str, given: Mapping[str, str]) -> str | None:
    """Where a map puts a weight or module: what the longest of the names says that it is under."""
    above = [part for part in given if part in ("", weight) or weight.startswith(f"{part}.")]
    return given[max(above, key=len)] if above else None


def _looked_up(model: _Skeleton, given: Mapping[str, str]) -> list[str]:
    """The device of every layer, as a map says it."""
    if unknown := sorted(set(given) - model.names):
        raise DeviceError(
            f"The device map names {unknown[0]!r}, and model {model.name!r} has no such module: its "
            f"{len(model.layers)} layers are {model.stack}.0 and so on, and beside them lie {', '.join(model.rest)}."
        )
    found = [{_device_of(weight, given) for weight in weights} for weights in model.weights]
    if nowhere := [f"{model.stack}.{place}" for place, devices in enumerate(found) if None in devices]:
        more = f" and {len(nowhere) - 3} more" if len(nowhere) > 3 else ""
        raise DeviceError(
            f"The device map leaves {', '.join(nowhere[:3])}{more} of model {model.name!r} nowhere. Add "
            f'"{nowhere[0]}" with its device, or "" for the device of all that is not named.'
        )
    for place, devices in enumerate(found):
        if len(devices) > 1:
            raise DeviceError(
                f"The device map puts parts of {model.stack}.{place} on {' and '.join(sorted(map(str, devices)))}: a "
                f'layer must be in one place. Name "{model.stack}.{place}" as a whole.'
            )
    return [str(*devices) for devices in found]


def _spread_out(model: _Skeleton, main: torch.device, even: bool, memory: str | None) -> list[str]:
    """The device of every layer, by what the devices have room for.

    Not accelerate's `infer_auto_device_map`: that keeps room on a GPU for the largest layer, to move layers of the CPU
    there. Here they are computed where they are.
    """
    rooms = _rooms(main, memory)
    taken = [model.other_bytes, *[0] * (len(rooms) - 1)]
    room = [max(0, int(size * _USABLE) - less) for size, less in zip(rooms.values(), taken, strict=True)]
    gpus = [place for place, device in enumerate(rooms) if device != "cpu"]
    if even and len(gpus) > 1:
        room = [*_level(model.layers, room[: len(gpus)], taken), *room[len(gpus) :]]
    places = filled(model.layers, room)
    if len(places) < len(model.layers):
        known = ", ".join(f"{device} {size / 1e9:.1f} GB" for device, size in rooms.items())
        raise DeviceError(
            f"Model {model.name!r} ({model.size}) does not fit on what is here ({known}"
            f"{'' if memory is None else f', with --memory {memory}'}): from "
            f"{model.stack}.{len(places)} on its layers would have to be offloaded to the disk, and weights there "
            f"cannot be computed with. {_REMEDY}."
        )
    return [list(rooms)[place] for place in places]


def _rooms(main: torch.device, memory: str | None) -> dict[str, int]:
    """Bytes of the devices over which a model may be spread: the main one, others of its kind, the CPU.

    Of accelerators all of their memory, whatever else is on them now, so that the same map is made every time.
    """
    from accelerate.utils import get_max_memory

    found = {str(main): 0}
    if main.type == "cuda":
        found.update({f"cuda:{number}": 0 for number in range(torch.cuda.device_count())})
    found["cpu"] = 0
    for name in found:
        size = accelerator_bytes(torch.device(name))
        found[name] = int(get_max_memory()["cpu"]) if size is None else size
    if memory is not None:
        found[str(main)] = min(found[str(main)], parse_bytes(memory))
    return found


def filled(layers: Sequence[int], room: Sequence[int]) -> list[int]:
    """The place of every layer, in order, as one place after the other is filled; ends where none is left."""
    found, place, left = list[int](), 0, list(room)
    for size in layers:
        while place < len(left) and left[place] < size:
            place += 1
        if place == len(left):
            break
        left[place] -= size
        found.append(place)
    return found


def _level(layers: Sequence[int], room: Sequence[int], taken: Sequence[int]) -> list[int]:
    """Room cut down so that no device holds more than it must, what is there beside layers counted in."""
    low, high = 0, max(size + less for size, less in zip(room, taken, strict=False))

    def cut(level: int) -> list[int]:
        return [max(0, min(size, level - less)) for size, less in zip(room, taken, strict=False)]

    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(filled(layers, cut(middle))) == len(layers) else (middle + 1, high)
    return cut(high)


def without_hooks(model: nn.Module) -> None:
    """Takes away accelerate's hooks, which move what modules read; weights that they keep on the CPU are put back."""
    from accelerate.hooks import remove_hook_from_submodules

    remove_hook_from_submodules(model)
    for module in model.modules():
        for name in ("forward", "to", "cuda", "hf_device_map"):  # accelerate's, or put back on the object by it
            vars(module).pop(name, None)
