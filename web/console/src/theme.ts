// SPDX-License-Identifier: Apache-2.0
import { createTheme, Modal, type MantineColorsTuple } from '@mantine/core';

// Teal: white on shade 7 reaches 4.5:1, and so does shade 4 on the dark body.
const pine: MantineColorsTuple = [
  '#e8f7f5', '#d3ece8', '#a6d8d1', '#75c3b8', '#4fb1a4', '#2fa193', '#17877b', '#0f6f66', '#0b5a53', '#064640',
];

export const theme = createTheme({
  primaryColor: 'pine',
  primaryShade: 7,
  autoContrast: true,
  luminanceThreshold: 0.35,
  colors: { pine },
  fontFamily:
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Hiragino Sans", "Yu Gothic UI", "Noto Sans JP", "Noto Sans CJK JP", sans-serif',
  fontFamilyMonospace: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Noto Sans Mono", "Noto Sans Mono CJK JP", monospace',
  defaultRadius: 'md',
  respectReducedMotion: true,
  cursorType: 'pointer',
  // A dialog's head is no second banner of the page.
  components: { Modal: Modal.extend({ defaultProps: { attributes: { header: { role: 'none' } } } }) },
  headings: { fontWeight: '650' },
});
