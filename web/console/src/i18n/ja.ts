// SPDX-License-Identifier: Apache-2.0
import type { Dict } from '.';
import { account } from './ja/account';
import { approvals } from './ja/approvals';
import { audit } from './ja/audit';
import { common } from './ja/common';
import { coverage } from './ja/coverage';
import { cve } from './ja/cve';
import { health } from './ja/health';
import { inside } from './ja/inside';
import { jobs } from './ja/jobs';
import { keys } from './ja/keys';
import { livepatches } from './ja/livepatches';
import { login } from './ja/login';
import { machine } from './ja/machine';
import { machines } from './ja/machines';
import { matrix } from './ja/matrix';
import { notifications } from './ja/notifications';
import { overview } from './ja/overview';
import { policies } from './ja/policies';
import { rollouts } from './ja/rollouts';
import { settings } from './ja/settings';
import { shell } from './ja/shell';
import { states } from './ja/states';
import { tiers } from './ja/tiers';
import { tokens } from './ja/tokens';
import { trend } from './ja/trend';
import { updates } from './ja/updates';
import { users } from './ja/users';

export const ja: Dict = {
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
};
