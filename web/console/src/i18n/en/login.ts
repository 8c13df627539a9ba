// SPDX-License-Identifier: Apache-2.0

export const login = {
  login: {
    title: 'Log in to Tsugi',
    about: 'Live patches for your fleet.',
    token: 'Operator token',
    tokenHelp: 'It is kept until this tab is closed.',
    show: 'Show the token',
    go: 'Log in',
    refused: 'The server does not know this token, or it was revoked.',
    ended: 'The server no longer takes your token. Log in again.',
    none: 'No token? On the server:',
  },
} as const;
