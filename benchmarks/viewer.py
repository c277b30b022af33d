"""`python -m benchmarks.viewer`: the pages in headless Chromium: size, time until usable, frames, filters; reports."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from playwright.sync_api import Browser, CDPSession, Page

from acdc_engine.graph.circuit import Circuit
from acdc_engine.shipped import graphs_folder
from acdc_engine.show.report import report_html
from acdc_engine.show.viewer import viewer_html
from benchmarks.report import RESULTS, Figure, Out, Table, describe_machine, figures_table, give
from tests.browser import chromium
from tests.made_circuits import made_circuit

SIZES = (20, 200, 1_000, 2_000, 5_000)
_MIDDLE = (640, 420)
MOST_BYTES, MOST_MS, MOST_REPORT_S, AT = 1_500_000, 1_000, 10, "1,000 edges"
"""What the pages of a circuit of that size may take."""
COLUMNS = (
    *("circuit", "KB", "usable, ms", "work", "frame", "95 %", "moving", "hover"),
    *("filter", "size", "trace", "report"),
)
_NOTE = (
    "Usable: from the start of navigation until the scripts are through and the picture has been painted; median "
    "(least to most) over fresh windows. Work: time that the page's main thread was busy until then; other work on the "
    "machine changes it little. Frame: time between frames while the mouse drags the picture and the wheel zooms it, "
    "median and 95 %; moving, hover: work per step of the mouse, with and without the button. Filter, size, trace: one "
    "move of the slider for the least strength to its middle, of that for the size to its start, one click on a node; "
    "each until it has been painted. Report: making report.html from the circuit, in seconds, and its KB (the first "
    "also imports matplotlib)."
)
_WATCH = """new MutationObserver(() => {
  if (!document.documentElement.dataset.ready || window.usable) return;
  const frame = then => requestAnimationFrame(() => requestAnimationFrame(then));
  window.usable = new Promise(done => frame(() => done(performance.now())));
}).observe(document, { attributes: true, subtree: true, attributeFilter: ["data-ready"] });"""
_RECORD = """() => {
  window.frames_ms = [];
  let last = performance.now();
  const next = now => {
    window.frames_ms.push(now - last);
    last = now;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}"""
_TIMED = """async ([id, value]) => {
  const started = performance.now();
  const slider = document.getElementById(id);
  if (slider) {
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  } else acdc.page.graph.select(id);
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - started;
}"""


def main(
    runs: Annotated[int, typer.Option(min=1, help="Fresh windows per circuit.")] = 7,
    frames: Annotated[int, typer.Option(min=1, help="Frames of the movement.")] = 120,
    tiny: Annotated[bool, typer.Option(help="One small circuit; writes nothing unless --out names a folder.")] = False,
    out: Out = None,
) -> None:
    """Opens viewer files of 20 to 5,000 edges from disk, with the network off. Needs playwright and a Chromium."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        found = [measured(browser, Path(folder), *item, runs, frames) for item in _circuits(tiny).items()]
        machine = describe_machine() | {"chromium": browser.version}
    tables = [Table("Viewer", COLUMNS, tuple(map(_cells, found)), _NOTE)]
    figures = [figure for row in found if row["circuit"] == AT for figure in figures_of(row)]
    if figures:
        tables.append(figures_table(figures))
    record = {"machine": machine, "settings": {"runs": runs, "frames": frames, "window": "1400x900"}, "rows": found}
    give(out or (None if tiny else RESULTS), "viewer", record, tables)


def measured(browser: Browser, folder: Path, name: str, circuit: Circuit, runs: int, frames: int) -> dict[str, Any]:
    """Writes the file of one circuit and times it: bytes, milliseconds of everything, seconds of the report."""
    file = folder / "page.html"
    file.write_text(viewer_html(circuit), encoding="utf-8")
    started = time.perf_counter()
    report = report_html(circuit)
    report_s = time.perf_counter() - started
    usable, processor = [], []
    for _ in range(runs):
        with _opened(browser, file) as (page, session):
            usable.append(page.evaluate("() => window.usable"))
            processor.append(_processor_ms(session))
    with _opened(browser, file) as (page, session):
        page.evaluate("() => window.usable")
        page.wait_for_timeout(200)
        before = _processor_ms(session)
        times = sorted(_moved(page, frames))
        moving = (_processor_ms(session) - before) / frames
        before = _processor_ms(session)
        for step in range(frames):
            page.mouse.move(500 + 5 * (step % 100), 300 + 3 * (step % 100))
        hovering = (_processor_ms(session) - before) / frames
        page.mouse.move(5, 5)
        middle = circuit.nodes[len(circuit.nodes) // 2].name
        acts = {"filter_ms": ["least", "50"], "size_ms": ["size", "0"]}
        took = {key: page.evaluate(_TIMED, act) for key, act in acts.items()}
        page.evaluate("acdc.page.controls.reset()")
        took["trace_ms"] = page.evaluate(_TIMED, [middle, ""])
    return {
        "circuit": name,
        "bytes": file.stat().st_size,
        "report_s": report_s,
        "report_bytes": len(report.encode()),
        "usable_ms": usable,
        "processor_ms": processor,
        "frame_ms": {"median": statistics.median(times), "p95": times[int(0.95 * len(times))], "most": times[-1]},
        "moving_processor_ms": moving,
        "hover_processor_ms": hovering,
        **took,
    }


def _circuits(tiny: bool) -> dict[str, Circuit]:
    if tiny:
        return {"20 edges": made_circuit(20)}
    made = {f"{n:,} edges": made_circuit(n) for n in SIZES}
    return made | {"gpt2/ioi, 963 edges": Circuit.load(graphs_folder() / "gpt2" / "ioi.json")}


def _moved(page: Page, steps: int) -> list[float]:
    """Drags the picture about and zooms with the wheel. Returns the times between frames, in milliseconds."""
    page.mouse.move(*_MIDDLE)
    page.evaluate(_RECORD)
    page.mouse.down()
    for step in range(steps // 2):
        page.mouse.move(_MIDDLE[0] + 4 * (step % 40), _MIDDLE[1] + 3 * (step % 40))
    page.mouse.up()
    for step in range(steps // 2):
        page.mouse.wheel(0, 40 if step % 10 < 5 else -40)
    times: list[float] = page.evaluate("window.frames_ms")
    return times


@contextmanager
def _opened(browser: Browser, file: Path) -> Iterator[tuple[Page, CDPSession]]:
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 900})
    try:
        page = context.new_page()
        page.add_init_script(_WATCH)
        session = context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(file.as_uri())
        page.wait_for_function("() => window.usable !== undefined")
        yield page, session
    finally:
        context.close()


def _processor_ms(session: CDPSession) -> float:
    """Time that the page's main thread worked: what it would take on a machine with nothing else to do."""
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return 1000 * float(metrics["TaskDuration"])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    usable, frame = row["usable_ms"], row["frame_ms"]
    kinds = ("moving_processor_ms", "hover_processor_ms", "filter_ms", "size_ms", "trace_ms")
    times = (frame["median"], frame["p95"], *(row[kind] for kind in kinds))
    return (
        row["circuit"],
        f"{row['bytes'] / 1000:,.0f}",
        f"{statistics.median(usable):.0f} ({min(usable):.0f} to {max(usable):.0f})",
        f"{statistics.median(row['processor_ms']):.0f}",
        *(f"{value:.0f}" for value in times),
        f"{row['report_s']:.2f} s, {row['report_bytes'] / 1000:,.0f} KB",
    )


def figures_of(row: dict[str, Any]) -> Iterator[Figure]:
    """What the issue asks for, of the page of `AT`."""
    usable = statistics.median(row["usable_ms"])
    most = f"at most {MOST_BYTES / 1000:,.0f} KB", f"at most {MOST_MS:,} ms"
    yield Figure(f"file of {AT}", most[0], f"{row['bytes'] / 1000:,.0f} KB", row["bytes"] <= MOST_BYTES)
    yield Figure(f"usable, {AT}", most[1], f"{usable:.0f} ms", usable <= MOST_MS)
    report = row["report_s"]
    yield Figure(f"report of {AT}", f"at most {MOST_REPORT_S} s", f"{report:.2f} s", report <= MOST_REPORT_S)


if __name__ == "__main__":
    typer.run(main)
