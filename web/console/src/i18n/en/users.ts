// SPDX-License-Identifier: Apache-2.0

export const users = {
  users: {},
} as const;
