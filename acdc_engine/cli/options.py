"""The options that commands share: what they are called, what they mean, where `--help` lists them."""

from pathlib import Path
from typing import Annotated

import typer

from acdc_engine.cli import completions
from acdc_engine.errors import CircuitFileError


def check_seed(seed: int | None) -> int | None:
    """Refuses a seed that numpy would refuse, but only after the search."""
    if seed is not None and seed < 0:
        raise typer.BadParameter(f"A seed is a whole number from 0, not {seed}.")
    return seed


MODEL, PRUNING, PROMPTS, RUN = "Model", "Scoring and pruning", "Prompts", "Run"


def check_page(path: Path | None) -> None:
    """Refuses a name for a page that says it is something else."""
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise CircuitFileError(
            f"A viewer or report is an HTML file; its name ends in .html, not as {path} does. Pictures (.svg, .pdf, "
            ".png) are made by acdc draw."
        )


CIRCUIT = (
    "A run's folder, finished or not; a circuit file, also of any format that acdc export --list names; or a circuit "
    "that comes along, such as gpt2/ioi (acdc show --list)."
)
"""What every command takes for a circuit."""
AnyCircuit = Annotated[str, typer.Argument(autocompletion=completions.circuits, metavar="CIRCUIT", help=CIRCUIT)]
Task = Annotated[
    str,
    typer.Argument(
        autocompletion=completions.tasks,
        metavar="TASK",
        help="A task by its name ([bold]ioi[/bold]; [bold]acdc tasks[/bold] lists them), or the path of your own: a "
        "card (.toml) or prompt pairs (.jsonl, .json, .csv, .tsv).",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        autocompletion=completions.models,
        help="smollm2-135m (no hub needed), any Hugging Face name (gpt2, ...) or a local directory.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        autocompletion=completions.among(completions.DEVICES),
        help="auto, cpu, cuda, cuda:N or mps.",
        rich_help_panel=MODEL,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        autocompletion=completions.among(completions.DTYPES),
        help="float32, bfloat16, float16 or float64.",
        rich_help_panel=MODEL,
    ),
]
UngroupKv = Annotated[
    bool,
    typer.Option(
        "--ungroup-kv",
        help="Give every query head a k and v of its own where the model shares them, as the MIB benchmark does.",
        rich_help_panel=MODEL,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        autocompletion=completions.among(completions.METHODS),
        help="How edges are scored: eap-ig (integrated gradients), eap (one gradient) or clean-corrupted (mean of "
        "two).",
        rich_help_panel=PRUNING,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Integration points of eap-ig: more are more exact and slower.",
        show_default="5",
        rich_help_panel=PRUNING,
    ),
]
Strategy = Annotated[
    str,
    typer.Option(
        autocompletion=completions.among(completions.STRATEGIES),
        help="How the circuit is found. iterative: drop the weakest edges, check the rest exactly, score again "
        "inside. top-k: the strongest edges; greedy: grown from the logits; both to --size or as few as meet the "
        "target. threshold: see --threshold. acdc: Conmy et al.'s greedy sweep, see --threshold and --candidates.",
        rich_help_panel=PRUNING,
    ),
]
Objective = Annotated[
    str,
    typer.Option(
        autocompletion=completions.among(completions.OBJECTIVES),
        help="What the target is about. faithfulness: the task's metric. kl: the share of the KL divergence from the "
        "model's whole output distribution that is recovered; it cannot overshoot, and needs larger circuits.",
        rich_help_panel=PRUNING,
    ),
]
Candidates = Annotated[
    int | None,
    typer.Option(
        help="Sweep over this many of the best edges by |score|, for acdc.",
        show_default="the whole graph",
        rich_help_panel=PRUNING,
    ),
]
RandomCircuits = Annotated[
    int,
    typer.Option(
        "--random",
        help="Random circuits of the same size to compare with on the held-out prompts; 0 for none.",
        rich_help_panel=RUN,
    ),
]
Faithfulness = Annotated[
    float,
    typer.Option(
        help="Target t, above 0 and at most 1: the circuit's share of the clean-corrupt difference (or of the KL "
        "divergence, see --objective) must lie between t and 2 - t on the discovery prompts.",
        rich_help_panel=PRUNING,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        help="At most this many edges, for top-k and greedy; edges on no path from input to logits do not count.",
        show_default="as few as meet the target",
        rich_help_panel=PRUNING,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="For threshold: keep edges that score at least this. For acdc: drop edges whose removal costs less than "
        "this. In units of the metric (nats with --objective kl).",
        rich_help_panel=PRUNING,
    ),
]
RankName = Annotated[
    str | None,
    typer.Option(
        autocompletion=completions.among(completions.RANKS),
        help="Edges count as strong by their absolute or signed score, or by rms, the root mean square over prompts; "
        "for top-k, greedy and threshold. Default: absolute, with --objective kl rms.",
        rich_help_panel=PRUNING,
    ),
]
Ablation = Annotated[
    str,
    typer.Option(
        autocompletion=completions.among(completions.ABLATIONS),
        help="What edges outside the circuit carry: patch (the corrupt prompt's value), mean (over the corrupt "
        "prompts) or zero.",
        rich_help_panel=PRUNING,
    ),
]
MetricName = Annotated[
    str | None,
    typer.Option(
        autocompletion=completions.among(completions.METRICS),
        help="What measures the behaviour: logit_diff, prob_diff, kl or nll.",
        show_default="the task's",
        rich_help_panel=PROMPTS,
    ),
]
Prompts = Annotated[
    int | None,
    typer.Option(
        help="Number of discovery prompts, which the search sees.",
        show_default="32, or as many as the task can give",
        rich_help_panel=PROMPTS,
    ),
]
HeldOut = Annotated[
    int | None,
    typer.Option(
        help="Number of held-out prompts, on which the circuit is judged.",
        show_default="64, or as many as the task can give",
        rich_help_panel=PROMPTS,
    ),
]
DropMisfits = Annotated[
    bool,
    typer.Option(
        "--drop-misfits",
        help="Leave out prompt pairs that do not fit the model, and say how many and why, instead of refusing all.",
        rich_help_panel=PROMPTS,
    ),
]
Seed = Annotated[
    int, typer.Option(callback=check_seed, help="Seed of the prompts and of their split.", rich_help_panel=PROMPTS)
]
PrependBos = Annotated[
    bool | None,
    typer.Option(
        "--bos/--no-bos",
        help="Start prompts with the model's beginning-of-sequence token. [dim]default: what the task says, else what "
        "the model's tokenizer does by itself[/dim]",
        rich_help_panel=PROMPTS,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="End the search in time for the whole run to take about so long: with the best circuit so far and its "
        "evidence. The same command goes on with it, for as long again.",
        show_default="until the search ends",
        rich_help_panel=RUN,
    ),
]
NoEdgeTests = Annotated[
    bool,
    typer.Option(
        "--no-edge-tests",
        help="Do not test every edge singly, which can take most of the time: no effects, no certificate.",
        rich_help_panel=RUN,
    ),
]
BatchSize = Annotated[int, typer.Option(help="Prompts run at once: fewer need less memory.", rich_help_panel=RUN)]
OutFolder = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the results.", show_default="runs/TASK-DATE-TIME", rich_help_panel=RUN),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace an earlier run in that folder; one of this very command that is unfinished is gone on with.",
        rich_help_panel=RUN,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on although the model does not show the behaviour.", rich_help_panel=RUN)
]
