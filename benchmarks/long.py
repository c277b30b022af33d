"""What scoring costs per token as prompts grow, and the memory it takes: SmolLM2-135M, prompts of random tokens.

Run it: `python -m benchmarks.long`. Every row is a process of its own, so that its peak is its own.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Annotated

import torch
import typer

from acdc_engine import Experiment, PromptSet
from acdc_engine.model import load_model
from acdc_engine.run.progress import reporter_of
from benchmarks.fresh_python import peak_resident_bytes, run_python
from benchmarks.report import Figure, Out, Table, Threads, describe_machine, errors_in_words, figures_table, give
from benchmarks.tasks import MODEL

FORWARD, PLACES, WORK = "forward pass", "eap at 10 places", ("forward pass", "eap", "eap at 10 places", "eap-ig")
LENGTHS = "64,256,1024,2048"
ALLOWED_GB = 12.0


@dataclass(frozen=True)
class Measured:
    """One kind of work on prompts of one length.

    Attributes:
        work: A scoring method, with places or not, or plain forward passes of the same prompts, one by one.
        tokens: Of a prompt.
        prompts: How many.
        seconds: What it took, without loading the model.
        peak_bytes: The most that its process ever held, the model and all libraries included.
    """

    work: str
    tokens: int
    prompts: int
    seconds: float
    peak_bytes: int

    @property
    def per_token(self) -> float:
        """Milliseconds."""
        return 1e3 * self.seconds / (self.prompts * self.tokens)


def prompts_of(tokens: int, n: int, d_vocab: int, n_places: int | None = None) -> PromptSet:
    """Random prompts that differ in their second token, so that nothing of them is the same in both runs.

    With places they are cut into so many of about one length, and the position that is read.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randint(0, d_vocab, shape, generator=generator)

    clean = drawn(n, tokens)
    corrupt = clean.clone()
    corrupt[:, 1] = (clean[:, 1] + 1 + drawn(n) % (d_vocab - 1)) % d_vocab
    spans = None if n_places is None else [[*(f"s{n_places * at // tokens}" for at in range(tokens - 1)), "end"]] * n
    return PromptSet.from_tokens(clean, corrupt, drawn(n), drawn(n), spans=spans)


def measure(model: str, work: str, tokens: int, n: int, threads: int) -> Measured:
    """Does the work in this process."""
    torch.set_num_threads(threads)
    view = load_model(model, device="cpu")
    prompts = prompts_of(tokens, n, view.d_vocab, 10 if work == PLACES else None)
    start = time.perf_counter()
    if work == FORWARD:
        with torch.no_grad():
            for row in prompts.clean:
                view.logits(row[None])
    else:
        Experiment(view, prompts).score(work.split()[0])
    return Measured(work, tokens, n, time.perf_counter() - start, peak_resident_bytes())


def table_of(rows: list[Measured]) -> Table:
    """Milliseconds per token, beside those of a forward pass of the same prompts, and gigabytes."""
    plain = {row.tokens: row.per_token for row in rows if row.work == FORWARD}
    cells = tuple(
        (
            row.work,
            f"{row.tokens:,}",
            str(row.prompts),
            f"{row.seconds:.1f}",
            f"{row.per_token:.2f}",
            f"{row.per_token / plain[row.tokens]:.1f}",
            f"{row.peak_bytes / 1e9:.1f}",
        )
        for row in rows
    )
    columns = ("work", "tokens", "prompts", "seconds", "ms per token", "forward passes", "peak GB")
    return Table("Cost by length", columns, cells, "The peak is of the whole process, with the model's weights in it.")


def main(
    model: Annotated[str, typer.Option(help="Which model.")] = MODEL,
    lengths: Annotated[str, typer.Option(help="Tokens of a prompt, with commas between them.")] = LENGTHS,
    n: Annotated[int, typer.Option(min=1, help="Prompts of each length.")] = 8,
    threads: Threads = 1,
    out: Out = None,
) -> None:
    """Times scoring on prompts of several lengths, each in a fresh process."""
    rows, wanted = list[Measured](), [(int(tokens), work) for tokens in lengths.split(",") for work in WORK]
    reporter = reporter_of(True)
    with errors_in_words():
        for tokens, work in wanted:
            with reporter.stage(f"{work}, {n} prompts of {tokens} tokens"):
                told = run_python(["-m", "benchmarks.long", "--one", model, work, *map(str, (tokens, n, threads))])
                rows.append(Measured(**json.loads(told)))
    peak = max(row.peak_bytes for row in rows) / 1e9
    figures = [Figure("peak memory of any row", f"<= {ALLOWED_GB:.0f} GB", f"{peak:.1f} GB", peak <= ALLOWED_GB)]
    settings = {"model": model, "prompts": n, "threads": threads}
    record = {"machine": describe_machine(), "settings": settings, "rows": [asdict(row) for row in rows]}
    give(out, "long", record, [figures_table(figures), table_of(rows)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        name, what, *numbers = sys.argv[2:]
        print(json.dumps(asdict(measure(name, what, *map(int, numbers)))))
    else:
        typer.run(main)
