"""EAP-IG's side of `benchmarks.peers`: `PYTHON -I benchmarks/peer_eap_ig.py CHECKOUT JOB ANSWER`.

Runs in EAP-IG's own environment, because EAP-IG needs transformer-lens 2 (or 3, untried), which cannot be installed
beside this engine's. Uses nothing of this repository; job and answer are JSON files, see `benchmarks/peer_job.py`.

To set it up, anywhere:

    git clone https://github.com/hannamw/EAP-IG
    python3.11 -m venv EAP-IG/.venv
    EAP-IG/.venv/bin/pip install torch==2.13.0 'transformer-lens>=2.15,<3' 'pyarrow<22' matplotlib
    python -m benchmarks.peers --eap-ig EAP-IG

Tried with EAP-IG at 795f560, transformer-lens 2.18.0, transformers 4.57.6, torch 2.13.0, numpy 1.26.4.

What is different from using EAP-IG as its README says, so that the work is the same:

- Models are Llama-like ones, from their folder: the weights are put in place here. transformer-lens 2 knows only names
  on the hub, and reads the rotary base of configurations written by transformers 5 wrongly.
- Token ids are given, not texts: `tokenize_plus` is replaced.
- Its code has `device='cuda'` written into it; without a CUDA device a copy of the four files is used that says 'cpu'.
- The metric is summed over a batch, since EAP-IG divides by the number of prompts itself.
- Weights keep their gradients, as in EAP-IG.
"""

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

MODULES = ("graph", "utils", "evaluate", "attribute")


def main(checkout: str, job_path: str, answer_path: str) -> None:
    """Does the job, or says why EAP-IG does not."""
    job = json.loads(Path(job_path).read_text())
    answer: dict[str, Any]
    versions = {"torch": torch.__version__, "eap-ig": checkout_version(Path(checkout))}
    method = method_of(job["alphas"])
    config = json.loads((Path(job["model"]) / "config.json").read_text())
    if method is None:
        answer = {"refused": "it takes gradients at the clean end, or at 0, 1/m, ... (m - 1)/m"}
    elif config["architectures"] != ["LlamaForCausalLM"]:
        answer = {"refused": "benchmarks/peer_eap_ig.py loads Llama-like models only"}
    else:
        torch.set_num_threads(job["threads"])
        with tempfile.TemporaryDirectory() as folder:
            eap = load_eap(Path(checkout), Path(folder))
            answer = score(job, eap, load_llama(Path(job["model"]), config), method)
        from importlib.metadata import version

        versions["transformer-lens"] = version("transformer-lens")
    Path(answer_path).write_text(json.dumps({"versions": versions, **answer}))


def method_of(alphas: list[float]) -> tuple[str, int | None] | None:
    """EAP-IG's name of the method with these points, and its number of steps; None where it has none."""
    points = len(alphas)
    if alphas == [1.0]:
        return "EAP", None
    if all(abs(alpha - k / points) < 1e-9 for k, alpha in enumerate(alphas)):
        return "EAP-IG-inputs", points
    return None


def checkout_version(checkout: Path) -> str:
    """Commit of the checkout, where it says."""
    head = checkout / ".git" / "HEAD"
    if not head.is_file():
        return "unknown"
    text = head.read_text().strip()
    if not text.startswith("ref: "):
        return text[:7]
    named = checkout / ".git" / text[5:]
    return named.read_text().strip()[:7] if named.is_file() else "unknown"


def load_eap(checkout: Path, folder: Path) -> dict[str, ModuleType]:
    """EAP-IG's modules by name, from a copy made for the device."""
    source = checkout / "src" / "eap"
    (folder / "eap").mkdir()
    (folder / "eap" / "__init__.py").touch()
    for path in source.glob("*.py"):
        text = path.read_text()
        if not torch.cuda.is_available():
            text = text.replace("device='cuda'", "device='cpu'").replace('device="cuda"', 'device="cpu"')
        if path.stem != "__init__":
            (folder / "eap" / path.name).write_text(text)
    sys.path.insert(0, str(folder))
    return {name: importlib.import_module(f"eap.{name}") for name in MODULES}


def load_llama(folder: Path, config: dict[str, Any]) -> Any:
    """A HookedTransformer with the weights of a Llama-like model, set up as EAP-IG asks."""
    from safetensors.torch import load_file

    lens: Any = importlib.import_module("transformer_lens")  # of another version than this repository's

    heads, groups, width = config["num_attention_heads"], config["num_key_value_heads"], config["hidden_size"]
    rotary = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 10000.0)}
    if rotary.get("rope_type", "default") != "default":
        raise ValueError(f"rotary positions of type {rotary['rope_type']} are not put in place here")
    grouped = groups != heads
    settings = lens.HookedTransformerConfig(
        n_layers=config["num_hidden_layers"],
        d_model=width,
        d_head=width // heads,
        n_heads=heads,
        n_key_value_heads=groups if grouped else None,
        d_mlp=config["intermediate_size"],
        d_vocab=config["vocab_size"],
        n_ctx=min(config["max_position_embeddings"], 1024),
        act_fn=config["hidden_act"],
        eps=config["rms_norm_eps"],
        normalization_type="RMS",
        final_rms=True,
        gated_mlp=True,
        positional_embedding_type="rotary",
        rotary_adjacent_pairs=False,
        rotary_dim=width // heads,
        rotary_base=rotary["rope_theta"],
        device="cuda" if torch.cuda.is_available() else "cpu",
        init_weights=False,
    )
    model = lens.HookedTransformer(settings)
    weights: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights.update(load_file(path))
    missing, unexpected = model.load_state_dict(converted(weights, config, grouped), strict=False)
    lost = [name for name in missing if not name.endswith(("mask", "IGNORE", "rotary_sin", "rotary_cos"))]
    biases = [name for name in lost if ".b_" in name or "._b_" in name]  # Llama has none: they start and stay 0
    if unexpected or len(lost) != len(biases):
        raise ValueError(f"weights without a place {unexpected}, places without weights {set(lost) - set(biases)}")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in biases:
                parameter.zero_()
    model.set_use_attn_result(True)
    model.set_use_split_qkv_input(True)
    model.set_use_hook_mlp_in(True)
    if grouped:
        model.set_ungroup_grouped_query_attention(True)
    return model


def converted(weights: dict[str, Tensor], config: dict[str, Any], grouped: bool) -> dict[str, Tensor]:
    """From Hugging Face's names and shapes to transformer-lens's."""
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    embedding, mark = weights["model.embed_tokens.weight"], "_" if grouped else ""
    state = {
        "embed.W_E": embedding,
        "ln_final.w": weights["model.norm.weight"],
        "unembed.W_U": weights.get("lm_head.weight", embedding).T.contiguous(),
    }
    for layer in range(config["num_hidden_layers"]):
        theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
        attention = f"{theirs}.self_attn"
        for name, part, count in (("W_Q", "q", heads), (f"{mark}W_K", "k", groups), (f"{mark}W_V", "v", groups)):
            rows = weights[f"{attention}.{part}_proj.weight"].unflatten(0, (count, -1))
            state[f"{ours}.attn.{name}"] = rows.transpose(1, 2).contiguous()
        state[f"{ours}.attn.W_O"] = weights[f"{attention}.o_proj.weight"].T.unflatten(0, (heads, -1)).contiguous()
        for name, part in (("W_in", "up"), ("W_gate", "gate"), ("W_out", "down")):
            state[f"{ours}.mlp.{name}"] = weights[f"{theirs}.mlp.{part}_proj.weight"].T.contiguous()
        state[f"{ours}.ln1.w"] = weights[f"{theirs}.input_layernorm.weight"]
        state[f"{ours}.ln2.w"] = weights[f"{theirs}.post_attention_layernorm.weight"]
    return state


def score(job: dict[str, Any], eap: dict[str, Any], model: Any, method: tuple[str, int | None]) -> dict[str, Any]:
    """Scores, timed; and circuits of the sizes asked for, chosen by EAP-IG."""
    for name in ("attribute", "evaluate", "utils"):
        eap[name].tokenize_plus = padded
    size, rows = job["batch_size"], list(zip(job["clean"], job["corrupt"], labels(job), strict=True))
    batches = [tuple(zip(*rows[at : at + size], strict=True)) for at in range(0, len(rows), size)]
    graph, seconds, cpu = eap["graph"].Graph.from_model(model), list[float](), list[float]()
    for _ in range(job["warm_ups"] + job["repeats"]):
        model.zero_grad()
        start, cpu_start = time.perf_counter(), time.process_time()
        eap["attribute"].attribute(model, graph, batches, loss, method[0], ig_steps=method[1], quiet=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    peak, metrics = peak_resident_bytes(), list[Tensor]()
    with torch.no_grad():
        for clean, _, told in batches:
            tokens, mask, _, _ = padded(model, clean)
            metrics += differences(model(tokens, attention_mask=mask), told)
    return {
        "seconds": seconds[job["warm_ups"] :],
        "cpu_seconds": cpu[job["warm_ups"] :],
        "peak_bytes": peak,
        "clean_metric": [float(value) for value in metrics],
        "scores": {name: float(edge.score) for name, edge in graph.edges.items()},
        "circuits": choose(graph, job),
    }


def choose(graph: Any, job: dict[str, Any]) -> dict[int, str]:
    """EAP-IG's own circuits: the n largest |score|, then pruned."""
    paths = {}
    for size in [size for size in job["sizes"] if size <= int(graph.real_edge_mask.sum())]:
        graph.apply_topn(size, absolute=True)
        if graph.count_included_edges():
            path = Path(job["folder"]) / f"eap-ig-{len(job['alphas'])}-{size}.json"
            graph.to_json(str(path))
            paths[size] = str(path)
    return paths


def labels(job: dict[str, Any]) -> list[Any]:
    """What the metric needs to know of every prompt."""
    return list(zip(job["read_at"], job["answers"], job["wrong_answers"], strict=True))


def differences(logits: Tensor, told: Any) -> list[Tensor]:
    """Mean right logit minus mean wrong logit of every prompt."""
    return [
        logits[row, at][right].mean() - logits[row, at][wrong].mean() for row, (at, right, wrong) in enumerate(told)
    ]


def loss(logits: Tensor, clean_logits: Tensor, input_lengths: Tensor, told: Any) -> Tensor:
    """The metric's negative, as EAP-IG wants it, so that positive scores support the behaviour."""
    return -torch.stack(differences(logits, told)).sum()


def padded(model: Any, rows: Any, max_length: int | None = None) -> tuple[Tensor, Tensor, Tensor, int]:
    """What EAP-IG's `tokenize_plus` returns, from token ids."""
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    tokens = torch.tensor([list(row) + [0] * (width - len(row)) for row in rows])
    mask = (torch.arange(width)[None] < lengths[:, None]).long()
    device = model.cfg.device
    return tokens.to(device), mask.to(device), lengths.to(device), width


def peak_resident_bytes() -> int:
    """The most this process ever held (see `peak_memory` in acdc_engine/run/meter.py)."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
