// SPDX-License-Identifier: Apache-2.0

export const common = {
  product: 'Tsugi',
  cancel: 'Cancel',
  close: 'Close',
  copied: 'Copied',
  copy: 'Copy',
  done: 'Done',
  loading: 'Loading',
  never: 'never',
  no: 'no',
  reason: 'Reason',
  remove: 'Remove',
  save: 'Save',
  yes: 'yes',
} as const;
