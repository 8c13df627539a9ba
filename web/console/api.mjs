// SPDX-License-Identifier: Apache-2.0

// Makes the types of the API from docs/openapi.yaml. The first line tells the
// test of internal/console of which document they are.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';

const document = '../../docs/openapi.yaml';
const types = 'src/api/schema.d.ts';
execFileSync('node_modules/.bin/openapi-typescript', [document, '-o', types, '--alphabetize'], { stdio: ['ignore', 'ignore', 'inherit'] });
const digest = createHash('sha256').update(readFileSync(document)).digest('hex');
writeFileSync(types, `// Of docs/openapi.yaml ${digest}\n// SPDX-License-Identifier: Apache-2.0\n\n${readFileSync(types, 'utf8')}`);
