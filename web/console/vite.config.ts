import { defineConfig } from 'vite';
import react from '@vitejs/plugin-react';

// The built files go into the Go program: internal/console serves them below /console/.
export default defineConfig({
  base: '/console/',
  plugins: [react()],
  build: {
    outDir: '../../internal/console/dist',
    emptyOutDir: true,
    target: 'es2022',
    sourcemap: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: 'vendor', test: /node_modules/ },
            { name: 'base', test: /src\/(ui\/(?!search)|api|i18n\/(en|index)|format|cve)/ },
          ],
        },
      },
    },
    license: { fileName: 'LICENSES.md' },
  },
  server: {
    proxy: { '/v1': { target: process.env.TSUGI_SERVER ?? 'https://127.0.0.1:8443', secure: false } },
  },
});
