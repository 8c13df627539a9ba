// SPDX-License-Identifier: Apache-2.0

export const many = (n: string | number, one: string, more: string) => `${n} ${String(n) === '1' ? one : more}`;
