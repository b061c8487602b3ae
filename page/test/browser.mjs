// A headless Chromium from a package, with fonts from packages, so that pictures and widths do not
// depend on the machine.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createRequire } from "node:module";

import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const require = createRequire(import.meta.url);
const AXE = require.resolve("axe-core/axe.min.js");

function fonts(folder) {
    const fonts = ["inter", "jetbrains-mono"].map((name) =>
        dirname(require.resolve(`@expo-google-fonts/${name}/package.json`)),
    );
    const prefer = (family, font) =>
        `<alias binding="same"><family>${family}</family><prefer><family>${font}</family></prefer></alias>`;
    const sans = ["system-ui", "sans-serif", "Segoe UI", "Roboto"].map((family) =>
        prefer(family, "Inter"),
    );
    const mono = ["ui-monospace", "monospace", "SF Mono"].map((family) =>
        prefer(family, "JetBrains Mono"),
    );
    const path = join(folder, "fonts.conf");
    writeFileSync(
        path,
        `<?xml version="1.0"?><fontconfig>${fonts.map((dir) => `<dir>${dir}</dir>`).join("")}
     <dir>/usr/share/fonts</dir><cachedir>${join(folder, "fontcache")}</cachedir>${sans.join("")}${mono.join("")}</fontconfig>`,
    );
    return path;
}

export class Browser {
    /** Everything that must not happen: errors in the console, requests to other hosts. */
    faults = [];

    static async open(url, folder) {
        mkdirSync(folder, { recursive: true });
        const browser = new Browser();
        browser.url = url;
        // What the package would switch off for servers without a network stays on: it is tested here.
        const args = chromium.args.filter((arg) => !/web-security|insecure|site-/.test(arg));
        browser.chromium = await puppeteer.launch({
            executablePath: await chromium.executablePath(),
            args,
            headless: "shell",
            env: {
                ...process.env,
                FONTCONFIG_FILE: fonts(folder),
                LANG: "en_US.UTF-8",
                LC_ALL: "en_US.UTF-8",
                LANGUAGE: "en_US",
            },
        });
        return browser;
    }

    /** Opens a page. What `answer` gives for a request, the page gets instead of the node's. */
    async page(path, view = {}) {
        const { scheme = "light", width = 1280, height = 900, missing = false, answer } = view;
        const page = await this.chromium.newPage();
        await page.setViewport({ width, height, deviceScaleFactor: 1 });
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
        page.on("console", (message) => {
            // A question that has no answer is reported by the browser too; the page shows why.
            const expected =
                /404|410/.test(message.text()) && /\/v1\//.test(message.location().url ?? "");
            if (["error", "warn"].includes(message.type()) && !(expected && missing)) {
                this.faults.push(
                    `${page.url()}: ${message.text()} ${message.location().url ?? ""}`,
                );
            }
        });
        page.on("pageerror", (error) => this.faults.push(`${page.url()}: ${error.message}`));
        page.on("request", (request) => {
            if (new URL(request.url()).origin !== new URL(this.url).origin)
                this.faults.push(`asks ${request.url()}`);
        });
        page.on("dialog", async (dialog) => {
            this.faults.push(`a dialog: ${dialog.message()}`);
            await dialog.dismiss();
        });
        if (answer) {
            await page.setRequestInterception(true);
            page.on("request", (request) => {
                const given = answer(request);
                void (given ? request.respond(given) : request.continue());
            });
        }
        await page.goto(this.url + path, { waitUntil: "load" });
        await page.waitForSelector("main h1");
        return page;
    }

    /** Waits until a page has all that it asked for; its stream of events stays open. */
    async settled(page) {
        await page.waitForNetworkIdle({ idleTime: 300, concurrency: 1 });
        await page.waitForFunction(() => !document.querySelector("main .waiting"));
    }

    /** Serious faults that axe finds in what the page shows now. */
    async axe(page) {
        if (!(await page.evaluate(() => "axe" in window))) {
            // Run like a tool of the browser, not like a script of the page, whose policy forbids it.
            await page.evaluate(require("node:fs").readFileSync(AXE, "utf8"));
        }
        const { violations } = await page.evaluate(() =>
            window.axe.run(document, { resultTypes: ["violations"] }),
        );
        return violations
            .filter(({ impact }) => impact === "serious" || impact === "critical")
            .map(
                ({ id, nodes }) =>
                    `${id}: ${nodes
                        .slice(0, 3)
                        .map((node) => node.html.slice(0, 120))
                        .join(" | ")}`,
            );
    }

    /** Closes what a check that failed left open: every page holds one of few connections. */
    async closePages() {
        for (const page of await this.chromium.pages()) await page.close();
    }

    async close() {
        await this.chromium.close();
    }
}
