"""Using circuits: `acdc run` asks with nothing but a circuit's edges."""

from typing import Annotated, Any

from acdc_engine.cli import options
from acdc_engine.cli.command import AsJson, command, print_result, progress, stage, stoppable

_Model = Annotated[
    str | None,
    options.in_model(
        help="The model, or where it is: a Hugging Face name or a local directory.",
        show_default="the one the file names",
    ),
]
_Dtype = Annotated[
    str | None, options.in_model(help="float32, bfloat16, float16 or float64.", show_default="the file's, or float32")
]


@command(
    "run",
    model=True,
    settings=("device", "memory", "device_map"),
    examples=[
        'run runs/demo --prompt "Ann and Tom met. Tom gave a book to" --corrupt "Ann and Tom met. Bob gave a book to"',
        'run runs/demo --prompt "Ann and Tom met. Tom gave a book to" --generate 20',
    ],
)
def run_(
    circuit: options.AnyCircuit,
    prompt: Annotated[str, options.in_prompts(help="A text of your own.")],
    corrupt: Annotated[
        str | None,
        options.in_prompts(
            help="The same with other words, of as many tokens: removed edges carry what they do there.",
            show_default="means over the corrupt prompts in the file",
        ),
    ] = None,
    generate: Annotated[
        int, options.in_prompts(help="Go on with so many tokens, each the most likely; --corrupt is continued alike.")
    ] = 0,
    top: Annotated[int, options.in_prompts(help="Next tokens to tell.")] = 5,
    ablation: Annotated[
        str | None,
        options.in_prompts(
            help="What removed edges carry: patch (--corrupt), mean or zero.",
            show_default="the circuit's with --corrupt, mean without",
        ),
    ] = None,
    model: _Model = None,
    dtype: _Dtype = None,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Asks a model, its circuit alone, and the model without the circuit what comes next, side by side.

    Every answer is an exact run with nothing but those edges. Each of the
    three can go on by itself (--generate). Places in the prompt are left out:
    a circuit of --where spans keeps its edges at all tokens.
    """
    with stage("Starting"):
        from acdc_engine.run.beside import run_beside
        from acdc_engine.show.voices import voices_sections

    with stoppable(lambda: "Nothing was written."):
        found = run_beside(
            circuit,
            prompt,
            corrupt,
            new_tokens=generate,
            top=top,
            ablation=ablation,
            model=model,
            dtype=dtype,
            progress=progress(),
            **settings,
        )
    print_result(found.model_dump_json(indent=1) if as_json else None, voices_sections(found), found.remarks)
