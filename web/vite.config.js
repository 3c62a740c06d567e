// SPDX-License-Identifier: Apache-2.0
import {readFileSync} from 'node:fs';
import {defineConfig} from 'vite';

// Their licence wants to go where they go.
const licence = readFileSync('node_modules/uplot/LICENSE', 'utf8').trim();

export default defineConfig({
  // One file of each kind, with names that do not change: control/meson.build names them.
  build: {
    target: 'es2022',
    modulePreload: false,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    rollupOptions: {
      output: {
        entryFileNames: 'app.js',
        assetFileNames: 'app[extname]',
        banner: `/*! Contains uPlot:\n${licence}\n*/`,
      },
    },
  },
});
