// SPDX-License-Identifier: Apache-2.0
import { expect, it } from 'vitest';
import { behind } from './trail';

it.each([
  ['on the first page', [], undefined, []],
  ['after two steps', [undefined, 'a'], 'b', [undefined, 'a']],
  ['after a way back in the browser', [undefined, 'a'], 'a', [undefined]],
  ['after two of them', [undefined, 'a'], undefined, []],
  ['by a link into the middle', [], 'z', []],
])('the pages before: %s', (_, trail, after, want) => expect(behind(trail, after)).toEqual(want));
