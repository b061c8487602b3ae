// The page as a reader meets it: Chromium in front of a local network of four validators.
import assert from "node:assert/strict";
import {
    existsSync,
    mkdirSync,
    mkdtempSync,
    readFileSync,
    readdirSync,
    rmSync,
    statSync,
    writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";

import { Browser } from "./browser.mjs";
import { HOSTILE, Network } from "./network.mjs";

const root = process.env.SOMA_ROOT ?? join(import.meta.dirname, "..", "..");
const built = ["release", "debug"]
    .map((profile) => join(root, "target", profile, "soma"))
    .filter((path) => existsSync(path));
const soma =
    process.env.SOMA_BIN ?? built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
const pictures = join(root, "docs", "pictures");
/** How long the network may take to settle its first target. */
const PATIENCE_MS = 150_000;
const PHONE = { width: 390, height: 844 };

let folder, network, browser;

before(async () => {
    assert.ok(soma, "target/release/soma or target/debug/soma is built");
    folder = mkdtempSync(join(tmpdir(), "soma-page-"));
    network = new Network(soma, root, folder);
    await Promise.all([network.start(4), network.train()]);
    browser = await Browser.open(network.url, join(folder, "browser"));
});

afterEach(() => browser?.closePages());

after(async () => {
    await browser?.close();
    await network?.stop();
    if (folder && !process.env.KEEP) rmSync(folder, { recursive: true, force: true });
});

const text = (page) => page.evaluate(() => document.querySelector("main").innerText);

test("an empty network says what to do first", async () => {
    const page = await browser.page("/");
    await page.waitForFunction(() => document.querySelectorAll(".empty").length >= 2);
    assert.match(await text(page), /soma model publish/);
    assert.match(await text(page), /soma submit/);
    // On a busy machine, the first epoch may be over.
    await page.waitForFunction(async () => {
        const { clock } = await (await fetch("/v1/status")).json();
        return document.querySelector(".strip .epoch").innerText === `Epoch ${clock.epoch}`;
    });
    assert.deepEqual(await browser.axe(page), []);
    await page.close();
});

test("home updates live when a target settles, and after the page was hidden", async () => {
    const page = await browser.page("/");
    await page.evaluate(() => (window.sinceLoad = true));
    await network.compete();
    await page.waitForFunction(
        (name) => document.querySelector("main").innerText.includes(name),
        {},
        "rust-specialist",
    );
    const hide = (hidden) =>
        page.evaluate((hidden) => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }, hidden);
    await hide(true);
    await page.waitForFunction(
        () => document.querySelector("footer [role=status]").textContent !== "Live",
    );
    const late = "registered-while-hidden";
    await network.as("account-7", "model", "register", late, "--stake", "5");
    assert.ok(!(await text(page)).includes(late), "a hidden page lets go of the stream");
    await hide(false);
    await page.waitForFunction(
        (name) =>
            [...document.querySelectorAll('[data-event="model_registered"]')].some((event) =>
                event.innerText.includes(name),
            ),
        {},
        late,
    );
    await page.waitForFunction(
        () => document.querySelector("footer [role=status]").textContent === "Live",
    );
    await page.waitForSelector('[data-event="target_settled"]', { timeout: PATIENCE_MS });
    await page.waitForSelector('tr[data-status="settled"]', { timeout: 20_000 });
    await page.waitForFunction(() =>
        [...document.querySelectorAll(".leaders tbody td:nth-child(2)")].some(
            (cell) => Number(cell.textContent) > 0,
        ),
    );
    await page.waitForSelector(".plane .dot");
    assert.equal(await page.evaluate(() => window.sinceLoad), true, "without a reload");
    await page.close();
});

test("a name that looks like markup stays text", async () => {
    const page = await browser.page("/models");
    await page.waitForFunction(
        (name) => document.querySelector("main").innerText.includes(name),
        {},
        HOSTILE,
    );
    assert.equal(await page.$("main img"), null);
    await page.close();
});

/** One address of each kind of page. */
async function addresses() {
    const { items: sent } = await network.json(
        `/v1/accounts/${network.address("account-1")}/transactions`,
    );
    const [validator] = await network.json("/v1/validators");
    const { items: targets } = await network.json("/v1/targets?limit=1");
    const [transaction] = sent;
    const { items } = await network.json("/v1/models");
    // A busy machine may be late with a model's first reveal; one of them has won.
    const model = items.toSorted((a, b) => b.wins - a.wins)[0];
    const { items: entered } = await network.json(
        `/v1/accounts/${network.address("account-4")}/events?limit=500`,
    );
    const { target: submitted } = entered.find(({ event }) => event === "submission_accepted");
    const submission = `/targets/${submitted}/submissions/${network.address("account-4")}`;
    return {
        submission,
        transaction,
        validator,
        target: targets[0],
        model,
        rust: items.find(({ name }) => name === "rust-specialist").id,
        block: await network.json(`/v1/blocks/${transaction.height}`),
        paths: [
            "/",
            "/models",
            ...items.map(({ id }) => `/models/${id}`),
            "/targets",
            `/targets/${targets[0].id}`,
            submission,
            `/epochs/${targets[0].epoch}`,
            "/epochs/1",
            "/blocks",
            `/blocks/${transaction.height}`,
            `/transactions/${transaction.hash}`,
            `/accounts/${network.address("account-1")}`,
            `/accounts/${network.address("account-4")}`,
            "/validators",
            `/validators/${validator.address}`,
            "/params",
            "/governance",
            "/architecture",
            "/genesis",
            "/status",
        ],
    };
}

test("search finds each kind of thing", async () => {
    const { transaction, validator, target, model, rust, block } = await addresses();
    const page = await browser.page("/blocks", { missing: true });
    const finds = async (query, path, kind) => {
        await page.evaluate(() => document.activeElement?.blur());
        await page.keyboard.press("/");
        await page.keyboard.type(query);
        await page.waitForSelector(`.hits a[href="${path}"]`);
        const hit = await page.$eval(`.hits a[href="${path}"]`, (link) => link.textContent);
        assert.match(hit, new RegExp(kind), query);
        await page.keyboard.press("Escape");
    };
    await finds("1", "/models/1", "model");
    await finds(String(target.id), `/targets/${target.id}`, "target");
    await finds("2", "/epochs/2", "epoch");
    await finds(block.height, `/blocks/${block.height}`, "block");
    await finds("rust-spec", `/models/${rust}`, "model");
    await finds(transaction.sender, `/accounts/${transaction.sender}`, "account");
    await finds(validator.address, `/validators/${validator.address}`, "validator");
    await finds(transaction.hash, `/transactions/${transaction.hash}`, "transaction");
    await finds(block.hash, `/blocks/${block.height}`, "block");
    await finds(model.weights.hash, `/models/${model.id}`, "weights");
    await finds("bond", "/params#bond_bps", "parameter");
    await page.keyboard.press("/");
    await page.keyboard.type("no such thing");
    await page.waitForFunction(() =>
        document.querySelector(".hits")?.innerText.includes("Nothing"),
    );
    await page.close();
});

test("every page has its JSON, no serious fault, and fits a phone", async () => {
    const { paths } = await addresses();
    for (const path of paths) {
        const page = await browser.page(path);
        await browser.settled(page);
        const twin = await page.$eval("a.twin", (link) => link.getAttribute("href"));
        assert.equal(twin, path === "/" ? "/v1/status" : `/v1${path}`);
        const facts = await network.json(twin);
        assert.ok(Object.keys(facts).length > 0, `${twin} says nothing`);
        assert.equal(await page.$(".trouble:not(.told)"), null, path);
        assert.deepEqual(await browser.axe(page), [], path);
        await page.setViewport({ ...PHONE, deviceScaleFactor: 1 });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= PHONE.width, `${path} is ${wide} wide on a phone`);
        await page.close();
    }
    const missing = await browser.page("/models/999999", { missing: true });
    await missing.waitForSelector(".trouble");
    assert.match(await text(missing), /model_not_found/);
    await missing.close();
});

/** Serious faults of a page without a JSON twin, and whether it fits a phone. */
async function sound(page, name) {
    assert.equal(await page.$("a.twin"), null, "no answer of the API");
    assert.deepEqual(await browser.axe(page), [], name);
    await page.setViewport({ ...PHONE, deviceScaleFactor: 1 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= PHONE.width, `${name} is ${wide} wide on a phone`);
    await page.setViewport({ width: 1280, height: 900, deviceScaleFactor: 1 });
}

test("a submission has a page, linked from its account, and why is said in sentences", async () => {
    const { submission } = await addresses();
    const address = network.address("account-4");
    const page = await browser.page(`/accounts/${address}`);
    await page.waitForSelector(`a[href="${submission}"]`);
    await page.waitForSelector(".why li");
    const { fates } = await network.json(`/v1/accounts/${address}/why`);
    const told = fates.map(({ text }) => `${text[0].toUpperCase()}${text.slice(1)}.`);
    const said = await page.$$eval(".why li .said > .theirs", (all) =>
        all.map((item) => item.innerText),
    );
    assert.ok(
        said.some((sentence) => told.includes(sentence)),
        `${said} of ${told}`,
    );
    await page.click(`a[href="${submission}"]`);
    await page.waitForFunction((path) => location.pathname === path, {}, submission);
    await page.waitForSelector('[data-event="submission_accepted"]');
    assert.match(await text(page), /Rank now/);
    await page.waitForSelector(".why li, #why ~ .quiet:not(.waiting)");
    assert.equal(await page.$(".trouble"), null);
    await page.close();
    const nobody = `/targets/1/submissions/${network.address("account-8")}`;
    const missing = await browser.page(nobody, { missing: true });
    await missing.waitForSelector(".trouble");
    assert.match(await text(missing), /submission_not_found/);
    await missing.close();
});

test("training runs are drawn from their logs, over each other, and nothing leaves the browser", async () => {
    const page = await browser.page("/runs");
    await page.waitForSelector(".empty");
    await browser.settled(page);
    // From here on, the page asks what every open page asks, and nothing else.
    const asked = [];
    const always = /^GET \/v1\/(status|events\?after=[\d-]+)$/;
    page.on("request", (request) => {
        const { pathname, search } = new URL(request.url());
        const question = `${request.method()} ${pathname}${search}`;
        if (!always.test(question) || request.hasPostData()) asked.push(question);
    });
    const hostile = join(folder, "<img src=x onerror=alert(1)>.jsonl");
    const config = { schema: "run/1", config: { note: "</bdi><script>alert(1)</script>" } };
    const lines = [config, { step: 1, loss: 9, seconds: 1 }, { step: 2, loss: 8, seconds: 2 }];
    writeFileSync(hostile, `${lines.map((line) => JSON.stringify(line)).join("\n")}\nno json\n`);
    const logs = ["rust", "prose"].map((name) => join(folder, `${name}.jsonl`));
    const chooser = await page.$('main input[type="file"]');
    await chooser.uploadFile(...logs, hostile);
    await page.waitForSelector(".curve canvas");
    await page.waitForFunction(() => document.querySelectorAll("[data-run]").length === 3);
    const shown = await text(page);
    assert.match(shown, /1 of 4 lines is malformed and left out; the first is line 4/);
    assert.match(shown, /<img src=x onerror=alert\(1\)>/);
    assert.equal(await page.$("main img, main script"), null);
    const last = await page.$eval(
        '[data-run="rust.jsonl"] td:nth-child(2)',
        (cell) => cell.innerText,
    );
    assert.equal(last, "80");
    await page.focus(".look input");
    for (let step = 0; step < 3; step += 1) await page.keyboard.press("ArrowLeft");
    await page.waitForFunction(() =>
        /^At step \d+$/.test(document.querySelector(".runs th:nth-child(6)").innerText),
    );
    const told = await page.$eval(".look input", (slider) => slider.ariaValueText);
    assert.match(told, /^step \d+: rust\.jsonl [\d.]+, prose\.jsonl [\d.]+$/);
    await page.$$eval(".bar .choice button", ([, time]) => time.click());
    await page.waitForFunction(
        () =>
            document.querySelector(".look input").ariaValueText.startsWith("0 s") ||
            /^\d+ (s|min)/.test(document.querySelector(".look input").ariaValueText),
    );
    await sound(page, "/runs");
    assert.deepEqual(asked, []);
    await page.close();
});

test("a log that grows is followed where the browser can, in the same drawing", async () => {
    const page = await browser.page("/runs");
    await page.evaluate(() => {
        const line = (step) => `${JSON.stringify({ step, loss: 1 / step, seconds: step })}\n`;
        window.grown = line(1) + line(2);
        window.showOpenFilePicker = async () => [
            {
                kind: "file",
                name: "grows.jsonl",
                getFile: async () => new File([window.grown], "grows.jsonl"),
                isSameEntry: async (other) => other.name === "grows.jsonl",
            },
        ];
        window.grow = (step) => (window.grown += line(step));
    });
    await page.$$eval(".drop button", ([choose]) => choose.click());
    const step = (number) =>
        page.waitForFunction(
            (number) =>
                document.querySelector('[data-run="grows.jsonl"] td:nth-child(2)')?.innerText ===
                number,
            {},
            String(number),
        );
    await step(2);
    const drawing = await page.waitForSelector(".curve canvas");
    const pixels = () => drawing.evaluate((canvas) => canvas.toDataURL());
    const before = await pixels();
    await page.evaluate(() => window.grow(3));
    await step(3);
    assert.equal(await drawing.evaluate((canvas) => canvas.isConnected), true);
    assert.notEqual(await pixels(), before, "with what the log grew by");
    // The same file again is the same run.
    await page.$$eval(".drop button", ([choose]) => choose.click());
    await page.evaluate(() => window.grow(4));
    await step(4);
    assert.equal((await page.$$("[data-run]")).length, 1);
    await page.close();
});

test("on a local network, data is tried with every model, byte by byte", async () => {
    // A busy machine may be late with a reveal, and one model alone is always the best.
    const active = async () => Number((await network.json("/v1/status")).models_active);
    const begun = Date.now();
    while ((await active()) < 2) {
        assert.ok(Date.now() - begun < PATIENCE_MS, "two models are active in time");
        await new Promise((resolve) => setTimeout(resolve, 300));
    }
    const page = await browser.page("/trial");
    await page.waitForFunction(() => document.querySelector('nav a[href="/trial"]'));
    const [sample] = readdirSync(join(folder, "rust"));
    const data = `<script>alert(1)</script> \u202e ${readFileSync(join(folder, "rust", sample), "utf8")}`;
    const file = join(folder, "tried <b>.rs");
    writeFileSync(file, data);
    const chooser = await page.$('main input[type="file"]');
    await chooser.uploadFile(file);
    await page.waitForSelector("[data-tried]", { timeout: 60_000 });
    const losses = await page.$$eval("[data-tried] td:nth-child(2)", (cells) =>
        cells.map((cell) => Number(cell.innerText)),
    );
    assert.ok(losses.length >= 2, `${losses}`);
    assert.ok(losses[0] < losses.at(-1), `${losses} differ`);
    assert.equal(losses[0], Math.min(...losses), "the first one wins");
    const shown = await page.$eval(".heat", (heat) => heat.innerText);
    assert.match(shown, /<script>alert\(1\)<\/script>/);
    assert.match(shown, /⟨U\+202E⟩/);
    const heat = await page.$$eval(".heat span", (pieces) =>
        pieces.map((piece) => ({
            level: /^(none|h\d)/.exec(piece.className)?.[0],
            color: getComputedStyle(piece).backgroundColor,
        })),
    );
    const colors = new Map(heat.map(({ level, color }) => [level, color]));
    assert.ok(!colors.has(undefined) && colors.size >= 4, `levels ${[...colors.keys()]}`);
    colors.delete("none");
    assert.equal(new Set(colors.values()).size, colors.size, `each its own of ${[...colors]}`);
    assert.ok(
        heat.every(({ level }, at) => level !== heat[at + 1]?.level),
        "neighbors of one color are one piece",
    );
    await page.click("[data-tried]:nth-child(2) button:nth-child(2)");
    await page.waitForSelector('.heat span[class^="c"]');
    assert.equal(await page.$('.heat span[class^="h"]'), null, "two are compared");
    await page.click("[data-tried]:nth-child(2) button:nth-child(2)");
    await page.waitForSelector('.heat span[class^="h"]');
    assert.equal(await page.$("main script, main b"), null);
    await page.focus(".look input");
    for (let step = 0; step < 5; step += 1) await page.keyboard.press("ArrowRight");
    const told = await page.$eval(".look input", (slider) => slider.ariaValueText);
    assert.match(told, /^byte 6, .*\d\.\d\d/);
    assert.equal(await page.$$eval(".heat .here", (here) => here.length), 1);
    assert.match(await text(page), /soma submit FILE --watch --key account-1 --url http/);
    await page.waitForSelector(".plane .dot");
    await sound(page, "/trial");
    const long = await fetch(`${network.url}/v1/trial`, {
        method: "POST",
        headers: { "content-type": "application/octet-stream" },
        body: "x".repeat(20_000),
    });
    assert.equal(long.status, 413);
    const foreign = await fetch(`${network.url}/v1/trial`, { method: "POST", body: "some text" });
    assert.equal(foreign.status, 400, "what a form of another site could send");
    await page.close();
});

/** Drops something on what a selector names; whether the page kept the browser from taking it. */
const drop = (page, selector, fill) =>
    page.$eval(
        selector,
        (place, fill) => {
            const data = new DataTransfer();
            if (fill.text) data.setData("text/plain", fill.text);
            if (fill.name) data.items.add(new File([fill.content], fill.name));
            const event = (kind) =>
                new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
            return ["dragover", "drop"].map((kind) => !place.dispatchEvent(event(kind)));
        },
        fill,
    );
const FILE = { name: "dropped.jsonl", content: '{"step": 1, "loss": 2}\n' };
const KEPT = [true, true];
const LEFT = [false, false];

test("a file that is dropped beside its place is taken, and only while its view is shown", async () => {
    const page = await browser.page("/runs");
    assert.deepEqual(await drop(page, "footer", FILE), KEPT);
    await page.waitForSelector('[data-run="dropped.jsonl"]');
    assert.deepEqual(await drop(page, "footer", { text: "some text" }), LEFT, "text is not taken");
    await page.click('nav a[href="/models"]');
    await page.waitForFunction(() => document.querySelector("h1").innerText === "Models");
    assert.deepEqual(await drop(page, "footer", FILE), LEFT);
    await page.click('nav a[href="/trial"]');
    await page.waitForSelector(".drop");
    const answer = page.waitForResponse((response) => response.url().endsWith("/v1/trial"));
    assert.deepEqual(await drop(page, "footer", FILE), KEPT);
    assert.equal((await answer).request().method(), "POST");
    await page.close();
});

test("nothing is posted to a node whose network is not local", async () => {
    const status = { ...(await network.json("/v1/status")), local: false };
    const posted = [];
    const page = await browser.page("/trial", {
        answer: (request) => {
            if (request.method() !== "GET") posted.push(request.url());
            return new URL(request.url()).pathname === "/v1/status"
                ? { contentType: "application/json", body: JSON.stringify(status) }
                : undefined;
        },
    });
    await page.waitForSelector(".empty");
    assert.equal(await page.$("main :is(input, textarea, button)"), null, "nothing to give it");
    for (const place of [".empty", "footer"])
        assert.deepEqual(await drop(page, place, FILE), KEPT, "the page stays");
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    assert.deepEqual(posted, []);
    await page.close();
});

test("the keyboard alone reaches everything", async () => {
    const page = await browser.page("/");
    await page.waitForSelector(".leaders tbody tr");
    // Rows come and go while the network runs; a page that stands still has the same stops.
    await page.goto(`${network.url}/models`);
    await page.waitForSelector("tbody tr");
    await browser.settled(page);
    const stops = await page.evaluate(() => {
        window.stops = [
            ...document.querySelectorAll("a[href]:not([tabindex='-1']), button, input, summary"),
        ];
        window.frame = (stop) => {
            const { outlineStyle, outlineWidth, borderTopColor } = getComputedStyle(stop);
            const outline = outlineStyle === "none" ? "none" : outlineWidth;
            return `${outline}, ${borderTopColor}`;
        };
        window.quiet = window.stops.map(window.frame);
        return window.stops.length;
    });
    const reached = new Set();
    for (let step = 0; step < stops + 2; step += 1) {
        await page.keyboard.press("Tab");
        const [at, quiet, focused] = await page.evaluate(() => {
            const at = window.stops.indexOf(document.activeElement);
            return [at, window.quiet[at], at < 0 ? "" : window.frame(window.stops[at])];
        });
        if (at < 0) continue;
        reached.add(at);
        assert.notEqual(focused, quiet, `the focus on stop ${at} is visible`);
    }
    assert.equal(reached.size, stops);
    await page.keyboard.press("/");
    await page.keyboard.type("rust-spec");
    await page.waitForSelector(".hits a");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => location.pathname.startsWith("/models/"));
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H1");
    await page.close();
});

test("the theme is the system's until the reader chooses, and then it stays", async () => {
    const page = await browser.page("/models", { scheme: "dark" });
    const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await paper();
    await page.click("footer button");
    const light = await paper();
    assert.notEqual(dark, light);
    await page.reload();
    await page.waitForSelector("main h1");
    assert.equal(await paper(), light);
    await page.evaluate(() => localStorage.clear());
    await page.close();
});

test("a curve has the colors of the theme that is shown", async () => {
    const { model } = await addresses();
    const page = await browser.page(`/models/${model.id}`);
    await page.waitForSelector(".curve canvas");
    const drawn = () =>
        page.waitForFunction(() => {
            const accent = getComputedStyle(document.querySelector(".brand svg")).stroke;
            const canvas = document.querySelector(".curve canvas");
            const { width, height } = canvas;
            // A copy, so that reading it again and again is no reason for the browser to warn.
            const copy = new OffscreenCanvas(width, height);
            const pixels = copy.getContext("2d", { willReadFrequently: true });
            pixels.drawImage(canvas, 0, 0);
            const { data } = pixels.getImageData(0, 0, width, height);
            for (let at = 0; at < data.length; at += 4)
                if (`rgb(${data.slice(at, at + 3).join(", ")})` === accent) return true;
            return false;
        });
    await drawn();
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
    await drawn();
    for (const _ of ["light", "dark", "system"]) {
        await page.click("footer button");
        await drawn();
    }
    await page.evaluate(() => localStorage.clear());
    await page.close();
});

test("a list follows the chain, however often its events come", async () => {
    const page = await browser.page("/blocks");
    const first = () =>
        page.$eval("tbody td:first-child", (cell) => Number(cell.textContent.replace(/\D/g, "")));
    await page.waitForSelector("tbody tr");
    const before = await first();
    // As often as transactions come, for longer than a list may take to follow.
    const until = Date.now() + 6_000;
    while (Date.now() < until)
        await network.as("account-7", "send", network.address("account-8"), "0.01");
    assert.ok((await first()) > before, `${before} stays the first`);
    await page.close();
});

test("a list continues where it ends, even if it is asked twice", async () => {
    const page = await browser.page("/blocks");
    await page.waitForSelector(".more button");
    await page.$eval(".more button", (button) => {
        button.click();
        button.click();
    });
    const heights = () =>
        page.$$eval("tbody td:first-child", (cells) =>
            cells.map((cell) => Number(cell.textContent.replace(/\D/g, ""))),
        );
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length > 50);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const shown = await heights();
    assert.deepEqual(
        shown,
        shown.map((_, at) => shown[0] - at),
    );
    await page.close();
});

test("all proposals can be read, the last ones first, and a link leads to one of them", async () => {
    const governance = await network.json("/v1/governance");
    const proposal = (id) => ({
        id,
        status: "voting",
        change: { change: "parameter", name: "epoch_ms", value: String(id * 60_000) },
        proposer: network.address("account-7"),
        deposit: "1000000000",
        approved: "0",
        total: "1",
        ends_epoch: 9,
        decided_epoch: null,
    });
    const range = (first, last) =>
        Array.from({ length: last - first + 1 }, (_, at) => proposal(first + at));
    const page = await browser.page("/governance#proposal-12", {
        answer: (request) => {
            const { pathname, searchParams } = new URL(request.url());
            if (pathname !== "/v1/governance") return undefined;
            const after = searchParams.get("after");
            const proposals = after === "11" ? range(1, 10) : range(11, 30);
            const next = after === null ? "11" : null;
            const body = JSON.stringify({ ...governance, proposals, next });
            return { contentType: "application/json", body };
        },
    });
    const shown = () =>
        page.$$eval(".proposal", (all) => all.map(({ id }) => Number(id.split("-")[1])));
    await page.waitForFunction(() => {
        const place = document.getElementById("proposal-12")?.getBoundingClientRect();
        return place !== undefined && place.top >= 0 && place.bottom <= innerHeight;
    });
    assert.deepEqual(
        await shown(),
        range(11, 30)
            .map(({ id }) => id)
            .toReversed(),
    );
    await page.click(".more button");
    await page.waitForSelector("#proposal-1");
    assert.deepEqual(
        await shown(),
        range(1, 30)
            .map(({ id }) => id)
            .toReversed(),
    );
    await page.close();
});

test("a path that is not a text leads nowhere, and Enter without a text finds nothing", async () => {
    const page = await browser.page("/blocks");
    const visit = (path) =>
        page.evaluate((path) => {
            history.pushState(null, "", path);
            dispatchEvent(new PopStateEvent("popstate"));
        }, path);
    await visit("/a%E2%80%AEb");
    await page.waitForFunction(() => document.querySelector("h1").innerText === "/a⟨U+202E⟩b");
    assert.equal(await page.title(), "Nothing here /a⟨U+202E⟩b · Soma");
    await visit("/%ff");
    await page.waitForFunction(() => document.querySelector("h1").innerText === "/%ff");
    assert.match(await text(page), /no such page/);
    await page.keyboard.press("/");
    await page.keyboard.press("Enter");
    await page.keyboard.type("rust-spec");
    await page.waitForSelector(".hits a");
    assert.equal(await page.evaluate(() => location.pathname), "/%ff");
    await page.close();
});

test("pictures for the documentation", { skip: !process.env.UPDATE }, async () => {
    mkdirSync(pictures, { recursive: true });
    const { model } = await addresses();
    const shots = [
        ["page-light.png", "/", { scheme: "light" }],
        ["page-dark.png", "/", { scheme: "dark" }],
        ["page-phone.png", "/", { scheme: "light", ...PHONE }],
        ["page-model.png", `/models/${model.id}`, { scheme: "light" }],
    ];
    // In the attest phase, somebody is ahead for every target.
    const settled = async () => (await network.json("/v1/status")).clock.phase === "attest";
    while (!(await settled())) await new Promise((resolve) => setTimeout(resolve, 300));
    for (const [name, path, view] of shots) {
        const page = await browser.page(path, { height: 1240, ...view });
        await page.waitForSelector(path === "/" ? ".plane .dot" : ".u-over");
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        await page.screenshot({ path: join(pictures, name) });
        await page.close();
    }
    const tools = [
        ["page-runs.png", "/runs", ["rust.jsonl", "prose.jsonl", "records.jsonl"], ".curve canvas"],
        ["page-trial.png", "/trial", [join("rust", readdirSync(join(folder, "rust"))[0])], ".heat"],
    ];
    for (const [name, path, files, shown] of tools) {
        const page = await browser.page(path, { height: 1240 });
        const chooser = await page.waitForSelector('main input[type="file"]');
        await chooser.uploadFile(...files.map((file) => join(folder, file)));
        await page.waitForSelector(shown, { timeout: 60_000 });
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        await page.screenshot({ path: join(pictures, name) });
        await page.close();
    }
});

test("no error, no dialog and no foreign request on all the way", async () => {
    assert.deepEqual(browser.faults, []);
    // Whatever must not happen would have been seen.
    const page = await browser.page("/params");
    await page.evaluate(async () => {
        console.error("an error");
        setTimeout(() => {
            throw new Error("an exception");
        });
        alert("a dialog");
        await fetch("http://foreign.invalid/").catch(() => {});
    });
    await page.goto("http://127.0.0.2:61000/").catch(() => {});
    const seen = browser.faults.join("\n");
    for (const fault of [
        /an error/,
        /an exception/,
        /a dialog/,
        /foreign\.invalid/,
        /127\.0\.0\.2/,
    ])
        assert.match(seen, fault);
    await page.close();
});
