// Builds the page into the node's crate, with names that depend on the content alone, so that the
// same sources give the same files. `npm run dev` serves it while editing, with a node's API.
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

const node = process.env.SOMA_URL ?? "http://127.0.0.1:8645";

export default defineConfig({
    plugins: [svelte()],
    build: {
        outDir: process.env.PAGE_OUT ?? "../crates/node/page",
        emptyOutDir: true,
        target: "es2022",
        // Files of their own: the policy of the page forbids `data:` and inline scripts.
        assetsInlineLimit: 0,
        cssCodeSplit: false,
        modulePreload: false,
        reportCompressedSize: false,
        rollupOptions: {
            output: {
                entryFileNames: "assets/page-[hash].js",
                chunkFileNames: "assets/page-[hash].js",
                assetFileNames: "assets/page-[hash][extname]",
            },
        },
    },
    server: {
        proxy: Object.fromEntries(["/v1", "/openapi.json", "/metrics"].map((path) => [path, node])),
    },
});
