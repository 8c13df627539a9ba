// SPDX-License-Identifier: Apache-2.0

export const account = {
  account: {},
} as const;
