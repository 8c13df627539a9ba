// SPDX-License-Identifier: Apache-2.0

export const keys = {
  keys: {},
} as const;
