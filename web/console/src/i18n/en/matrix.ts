// SPDX-License-Identifier: Apache-2.0

export const matrix = {
  matrix: {},
} as const;
