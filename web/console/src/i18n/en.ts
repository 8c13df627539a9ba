// SPDX-License-Identifier: Apache-2.0
import { account } from './en/account';
import { approvals } from './en/approvals';
import { audit } from './en/audit';
import { common } from './en/common';
import { coverage } from './en/coverage';
import { cve } from './en/cve';
import { health } from './en/health';
import { inside } from './en/inside';
import { jobs } from './en/jobs';
import { keys } from './en/keys';
import { livepatches } from './en/livepatches';
import { login } from './en/login';
import { machine } from './en/machine';
import { machines } from './en/machines';
import { matrix } from './en/matrix';
import { notifications } from './en/notifications';
import { overview } from './en/overview';
import { policies } from './en/policies';
import { rollouts } from './en/rollouts';
import { settings } from './en/settings';
import { shell } from './en/shell';
import { states } from './en/states';
import { tiers } from './en/tiers';
import { tokens } from './en/tokens';
import { trend } from './en/trend';
import { updates } from './en/updates';
import { users } from './en/users';

// The words of the console, a file for each page. Numbers come written out for
// the language.
export const en = {
  ...account,
  ...approvals,
  ...audit,
  ...common,
  ...coverage,
  ...cve,
  ...health,
  ...inside,
  ...jobs,
  ...keys,
  ...livepatches,
  ...login,
  ...machine,
  ...machines,
  ...matrix,
  ...notifications,
  ...overview,
  ...policies,
  ...rollouts,
  ...settings,
  ...shell,
  ...states,
  ...tiers,
  ...tokens,
  ...trend,
  ...updates,
  ...users,
} as const;
