// SPDX-License-Identifier: Apache-2.0

// Every page, at the width of a desk and of a phone, in each language.
import { ask, at, desk, doing, home, inspect, must, open, phone, settle } from './kit.mjs';
import { sessions } from './people.mjs';

async function pages() {
  const all = (await ask('/v1/machines?limit=1000')).items;
  const sick = all.find((m) => m.hostname.startsWith('canary-02')) ?? all[0];
  const fine = all.find((m) => m.protection === 'protected') ?? all[0];
  const hostileHost = all.find((m) => m.hostname.includes('hostile')) ?? all[0];
  const odd = all.find((m) => m.hostname.startsWith('appliance')) ?? all[0];
  const patches = (await ask('/v1/livepatches')).items;
  const partly = (await ask('/v1/machines?need=restart')).items[0];
  const crashed = all.find((m) => m.protection === 'failing' && m.reason.includes('SIGSEGV')) ?? all[0];
  const library = patches.find((p) => p.target.startsWith('debian:libssl3=') && p.tiers.includes('stable'));
  const jobs = (await ask('/v1/jobs')).items;
  const people = (await ask('/v1/users')).items;
  const rollouts = (await ask('/v1/rollouts')).items;
  return [
    ['overview', '/'],
    ['machines', '/machines'],
    ['machines-filtered', '/machines?protection=outdated&tier=stable'],
    ['machines-stale', '/machines?stale=true'],
    ['machines-none', '/machines?q=nosuchhost'],
    ['machine-sick', `/machines/${sick.id}`],
    ['machine-fine', `/machines/${fine.id}`],
    ['machine-hostile', `/machines/${hostileHost.id}`],
    ['machine-odd', `/machines/${odd.id}`],
    ['machine-partly', `/machines/${partly.id}`],
    ['machine-crashed', `/machines/${crashed.id}`],
    ['livepatches', '/livepatches'],
    ['livepatch', `/livepatches/${patches.find((p) => p.version === 2 && p.kernel.release).id}`],
    ['livepatch-blocked', `/livepatches/${patches.find((p) => p.blocked).id}`],
    ['livepatch-package', `/livepatches/${library.id}`],
    ['cve-package', `/cves/${library.cves[0]}`],
    ['cve-open', '/cves/CVE-2026-31431'],
    ['cve-hostile', '/cves/CVE-2026-28777'],
    ['cve-unknown', '/cves/CVE-2020-0001'],
    ['cves', '/cves'],
    ['targets', '/targets'],
    ['system', '/system'],
    ['policies', '/policies'],
    ['policy', '/policies/databases'],
    ['updates', '/updates'],
    ['jobs', '/jobs'],
    ['job-failed', `/jobs/${jobs.find((j) => j.state === 'failed').id}`],
    ['job-running', `/jobs/${jobs.find((j) => j.state === 'running').id}`],
    ['tiers', '/tiers'],
    ['tokens', '/tokens'],
    ['audit', '/audit'],
    ['audit-filtered', '/audit?action=livepatch.*'],
    ['audit-none', '/audit?actor=nobody'],
    ['settings', '/settings'],
    ['account', '/account'],
    ['users', '/users'],
    ['user', `/users/${people.find((u) => u.name === 'mia').id}`],
    ['sessions', '/sessions'],
    ['keys', '/keys'],
    ['approvals', '/approvals?all=true'],
    ['notifications', '/notifications'],
    ['rollouts', '/rollouts'],
    ...rollouts.map((r) => [`rollout-${r.phase}${r.target.includes('=') ? '-package' : ''}`, `/rollouts/${r.id}`]),
    ['nosuchpage', '/nosuchpage'],
    ['nosuchmachine', '/machines/01900000-0000-7000-8000-000000000000'],
  ];
}

// gallery opens every page anew, as a link from elsewhere does, and tells how
// long the slowest took until it could be used.
export async function gallery() {
  doing('gallery');
  const list = await pages();
  const ways = [
    { name: 'desk-en', viewport: desk, language: 'en' },
    { name: 'phone-ja', viewport: phone, language: 'ja', scheme: 'dark' },
    { name: 'desk-ja', viewport: desk, language: 'ja', scheme: 'dark', all: true },
    { name: 'phone-en', viewport: phone, language: 'en', all: true },
  ].filter((w) => !w.all || process.env.TSUGI_LOOK_ALL);
  const took = [];
  const shown = new Set(); // pages that showed hostile words as words
  await Promise.all(
    ways.map(async (w) => {
      const page = await open({ ...w, state: sessions.owner });
      for (const [name, path] of list) {
        at(page, `${w.name} ${name}`);
        await page.goto(home + path);
        took.push([await settle(page), `${w.name} ${name}`]);
        must((await page.locator('html').getAttribute('lang')) === w.language, 'the language of the page is another', page);
        const words = shows[name];
        if (words) must((await page.locator('main').innerText()).includes(words), `it does not show ${words}`, page);
        if ((await inspect(page, `${w.name}-${name}`)).words) shown.add(name);
      }
      await page.context().close();
    }),
  );
  took.sort((a, b) => b[0] - a[0]);
  const ms = (t) => `${Math.round(t[0])} ms (${t[1]})`;
  console.log(`pages usable after: at worst ${ms(took[0])}, then ${ms(took[1])}, in the middle ${ms(took[took.length >> 1])}`);
  for (const name of hostile) must(shown.has(name), `${name} does not show the hostile words that it has`);
}

// Words that a page has to show in every language.
const shows = { 'machine-partly': '/usr/lib/x86_64-linux-gnu/libcrypto.so.3', 'machines-stale': 'web-00.tokyo.example' };

// Pages that show what the fleet of test/console wrote to do harm.
const hostile = ['overview', 'machine-hostile', 'machine-partly', 'machine-crashed', 'livepatch-package', 'livepatch-blocked', 'cve-hostile', 'cves', 'policy', 'jobs', 'job-failed', 'job-running', 'audit', 'user', 'users', 'rollouts', 'rollout-halted'];
