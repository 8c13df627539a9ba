// SPDX-License-Identifier: Apache-2.0

// Writes down which sources the built files are of: the test of internal/console
// computes the same and fails when somebody forgot to build.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const roots = ['src', 'public'];
const single = ['index.html', 'package.json', 'package-lock.json', 'tsconfig.json', 'vite.config.ts'];
const files = roots
  .flatMap((r) => readdirSync(r, { recursive: true, withFileTypes: true }))
  .filter((e) => e.isFile())
  .map((e) => `${e.parentPath}/${e.name}`)
  .filter((f) => !/\.test\.tsx?$/.test(f) && f !== 'src/api/schema.d.ts') // tests and types leave nothing in what is built
  .concat(single)
  .sort((a, b) => (a < b ? -1 : 1));
const sums = files.map((f) => `${createHash('sha256').update(readFileSync(f)).digest('hex')}  ${f}\n`).join('');
writeFileSync('../../internal/console/dist/sources.sha256', sums);
