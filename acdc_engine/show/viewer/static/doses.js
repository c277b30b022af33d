/* Dose and response of a head: a small chart for the panel. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const { svg, number } = acdc.parts;
  const WIDTH = 260, HEIGHT = 110, LEFT = 40, RIGHT = 8, TOP = 8, BOTTOM = 20;

  /**
   * @param {{metric: string, factors: number[], values: number[]}} doses Of ViewNode.
   * @param {number[]} all Values that the scale has room for.
   * @returns {SVGElement}
   */
  acdc.doses = ({ metric, factors, values }, all) => {
    const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
    const [first, last] = [Math.min(...factors), Math.max(...factors)];
    const x = (factor) => LEFT + ((WIDTH - LEFT - RIGHT) * (factor - first)) / (last - first || 1);
    const y = (value) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - value)) / (high - low || 1);
    const words = factors.map((factor, at) => `${number(values[at])} at ${factor}`);
    const level = (value, kind) => [
      svg("line", { class: kind, x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 5, y: y(value) + 3.5, "text-anchor": "end" }, number(value)),
    ];
    const ends = [...new Set([low, high])].filter((value) => Math.abs(y(value) - y(0)) > 10);
    return svg("svg", { class: "doses", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${metric}: ${words.join(", ")}` },
      ...ends.flatMap((value) => level(value, "level")), ...level(0, "level zero"),
      svg("line", { class: "rest", x1: x(1), x2: x(1), y1: TOP, y2: HEIGHT - BOTTOM }),
      ...factors.map((factor) => svg("text", { x: x(factor), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, String(factor))),
      svg("polyline", { class: "line", points: factors.map((factor, at) => `${x(factor)},${y(values[at])}`).join(" ") }),
      ...factors.map((factor, at) => svg("circle", { class: "mark", cx: x(factor), cy: y(values[at]), r: 3 },
        svg("title", {}, words[at]))));
  };
})();
