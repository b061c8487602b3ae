// What the page computes itself: logs of training runs, whatever a file holds, the heat of text,
// and whether data may be given to the node.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { transformWithEsbuild } from "vite";

/** A module of the page without types, as the browser runs it. */
async function load(name) {
    const path = join(import.meta.dirname, "..", "src", "lib", name);
    const { code } = await transformWithEsbuild(readFileSync(path, "utf8"), path, {
        target: "es2022",
    });
    return import(`data:text/javascript;base64,${Buffer.from(code).toString("base64")}`);
}

const { RunLog, smoothed, thinned } = await load("runlog.ts");
const { lastAtMost } = await load("sorted.ts");
const { tries } = await load("home.ts");
const { characters, contrast, cost, heat } = await load("heat.ts");

function read(text, pieces = 1) {
    const log = new RunLog();
    const size = Math.ceil(text.length / pieces);
    for (let at = 0; at < text.length; at += size) log.add(text.slice(at, at + size));
    return log;
}

const line = (step, values, seconds = step) => `${JSON.stringify({ step, ...values, seconds })}\n`;

test("a log reads the same in one piece and in many", () => {
    const text =
        `${JSON.stringify({ schema: "run/1", config: { rate: 0.1 } })}\n` +
        line(1, { loss: 3.5, note: "é" }) +
        line(2, { loss: 3.25, gain: 1 }) +
        '{"step": 3, "loss"';
    for (const pieces of [1, 2, 7, text.length]) {
        const log = read(text, pieces);
        assert.deepEqual(log.config, { rate: 0.1 });
        assert.deepEqual(log.metrics, ["loss", "gain"]);
        assert.deepEqual(log.series("loss"), {
            steps: [1, 2],
            seconds: [1, 2],
            values: [3.5, 3.25],
        });
        assert.deepEqual([log.lines, log.malformed, log.unfinished], [3, 0, true]);
    }
});

test("malformed lines are counted, and the first is named", () => {
    const bad = [
        "no json",
        "[1]",
        "null",
        '{"loss": 1}',
        '{"step": "2", "loss": 1}',
        '{"step": 1e99}',
    ];
    const log = read(`${line(1, { loss: 1 })}\n${bad.join("\n")}\n${line(2, { loss: 2 })}`);
    assert.deepEqual([log.lines, log.malformed, log.firstMalformed], [8, 6, 3]);
    assert.deepEqual(log.series("loss").values, [1, 2]);
    const long = read(`${line(1, { loss: 1 })}${"x".repeat(3 << 20)}\n${line(2, { loss: 2 })}`, 40);
    assert.deepEqual([long.malformed, long.series("loss").steps.length], [1, 2]);
});

test("what a resumed run repeats replaces what it wrote before, and its time continues", () => {
    const first = [1, 2, 3, 4].map((step) => line(step, { loss: step }, step * 10)).join("");
    const again = [3, 4, 5].map((step) => line(step, { loss: -step }, step - 2)).join("");
    const log = read(first + again);
    assert.deepEqual(log.series("loss").values, [1, 2, -3, -4, -5]);
    assert.deepEqual(log.series("loss").seconds, [10, 20, 41, 42, 43]);
    assert.equal(log.step, 5);
    const shorter = read(first + line(2, { loss: -2 }, 1));
    assert.deepEqual(shorter.series("loss").seconds, [10, 41, 41, 41], "time never falls");
});

test("what was read of a log changes only when the log grows", () => {
    const log = read(line(2, { loss: 2 }));
    const before = log.series("loss");
    assert.equal(log.series("loss"), before, "computed once");
    log.add(line(1, { loss: 1 }));
    assert.deepEqual(log.series("loss").steps, [1, 2], "in the order of steps");
    assert.equal(log.step, 2);
    log.add(line(2, { loss: 3 }));
    assert.deepEqual(log.series("loss").values, [1, 3]);
    assert.deepEqual(before.values, [2], "what was given stays as it was");
});

test("a place in what is sorted is found as by reading all of it", () => {
    const sorted = [1, 1, 2, 5, 8, 8, 13];
    for (const numbers of [[], [3], sorted])
        for (const most of [-Infinity, 0, 1, 1.5, 3, 8, 13, 99, Infinity])
            assert.equal(
                lastAtMost(numbers, most),
                numbers.findLastIndex((number) => number <= most),
                `${most} in ${numbers}`,
            );
});

test("numbers that are not finite leave a gap, and text is no value", () => {
    const log = read(`${line(1, { loss: null, name: "x" })}${line(2, { loss: 2 })}`);
    assert.deepEqual(log.series("loss").values, [null, 2]);
    assert.deepEqual(log.metrics, ["loss"]);
    assert.deepEqual(smoothed([null, 2, 2, null], 0.9), [null, 2, 2, null]);
});

test("smoothing has no pull to zero, and thinning keeps the extremes", () => {
    const values = Array.from({ length: 100_000 }, (_, at) => Math.sin(at / 9_000));
    values[54_321] = 9;
    const [first, second] = smoothed([4, 8], 0.5);
    assert.deepEqual([first, second.toFixed(4)], [4, "6.6667"]);
    const places = thinned(values, 2_000);
    assert.ok(places.length <= 2_001 && places.includes(54_321));
    assert.deepEqual(
        places,
        places.toSorted((a, b) => a - b),
    );
    assert.deepEqual(thinned([1, 2], 10), [0, 1]);
});

test("a file that ends without a newline counts once it is whole", () => {
    const log = read('{"step": 1, "loss": 2}');
    assert.equal(log.lines, 0);
    log.end();
    assert.deepEqual([log.lines, log.unfinished, log.series("loss").values], [1, false, [2]]);
});

test("data is given to a node of a local network on this machine alone", () => {
    const at = (hostname, status) => {
        globalThis.location = { hostname };
        return tries(status);
    };
    for (const hostname of ["localhost", "127.0.0.1", "[::1]"]) {
        assert.equal(at(hostname, { local: true }), true, hostname);
        assert.equal(at(hostname, { local: false }), false, hostname);
        assert.equal(at(hostname, undefined), false, "before the node has answered");
    }
    for (const hostname of ["soma.example", "127.0.0.1.example", "192.168.0.7"])
        assert.equal(at(hostname, { local: true }), false, hostname);
    delete globalThis.location;
});

test("data is shown as its characters, and bytes that are no text as their numbers", () => {
    const data = new TextEncoder().encode("aé\n€");
    const shown = characters(new Uint8Array([...data, 0xff, 0x80, 0xe2]));
    assert.deepEqual(
        shown.map(({ text }) => text),
        ["a", "é", "⏎\n", "€", "⟨FF⟩", "⟨80⟩", "⟨E2⟩"],
    );
    assert.equal(shown[3].to - shown[3].from, 3);
    assert.equal(shown.at(-1).to, data.length + 3);
    const text = "\ufeffa";
    assert.equal(
        characters(new TextEncoder().encode(text))
            .map(({ text }) => text)
            .join(""),
        text,
        "a byte order mark is kept",
    );
});

test("a character costs what its bytes cost together, and neighbors of one color are one piece", () => {
    const all = characters(new TextEncoder().encode("abé"));
    const losses = [null, 200, 1_500, 1_000];
    assert.equal(cost(losses, 2, 4), 2.5);
    assert.equal(cost(losses, 0, 1), null);
    assert.deepEqual(
        heat(all, losses).map(({ text, level }) => [text, level]),
        [
            ["a", null],
            ["b", 1],
            ["é", 4],
        ],
    );
    assert.deepEqual(
        heat(all, [300, 200, 100, 200]).map(({ text }) => text),
        ["abé"],
    );
    const [first, second] = [
        [null, 200, 1_500, 1_000],
        [null, 200, 100, 0],
    ];
    assert.deepEqual(
        contrast(all, first, second).map(({ level }) => level),
        [null, 3, 6],
    );
    assert.deepEqual(
        contrast(all, second, first).map(({ level }) => level),
        [null, 3, 0],
    );
});
