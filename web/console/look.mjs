// SPDX-License-Identifier: Apache-2.0

// Goes through the console of a server with a browser, as a person would, and
// fails on the first thing that must not be: an error in the browser's console,
// a request to anywhere else, what the page's policy refused, a page that is
// wider than a phone, what axe finds. test/console starts the server.
//
//   TSUGI_TOKEN=tso_… TSUGI_LINK=https://…#… [TSUGI_LOOK_ALL=1] node look.mjs https://127.0.0.1:8443 DIRECTORY-FOR-PICTURES
//
// The link is that of the first admin. Without TSUGI_LOOK_ALL the gallery is of
// the two ways that differ most.
import { createHmac } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [server, shots] = process.argv.slice(2);
const token = process.env.TSUGI_TOKEN;
const home = `${server}/console`;
const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
mkdirSync(shots, { recursive: true });

const failures = [];
let doing = '';
const fail = (what, page) => {
  const at = (page && where.get(page)) ?? doing;
  failures.push(`${at}: ${what}`);
  console.log(`FAIL ${at}: ${what}`);
};
const where = new WeakMap(); // what a page does that is not alone
const must = (ok, what, page) => ok || fail(what, page);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-renderer-priority-management'],
});

const desk = { width: 1280, height: 900 };
const phone = { width: 390, height: 844 };

// open makes a browser of somebody who has been here before, or never was.
async function open({ viewport, language, scheme, state }) {
  const context = await browser.newContext({
    viewport, ignoreHTTPSErrors: true, colorScheme: scheme ?? 'light', locale: language === 'ja' ? 'ja-JP' : 'en-GB', timezoneId: 'Asia/Tokyo',
    hasTouch: viewport.width < 500, deviceScaleFactor: viewport.width < 500 ? 2 : 1, reducedMotion: 'reduce', acceptDownloads: true,
    ...(state ? { storageState: state } : {}),
  });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: server });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000); // a machine that does other things too
  page.on('pageerror', (e) => fail(`exception: ${e.message}`, page));
  page.on('console', (m) => {
    // What the server refuses on purpose is shown by the browser as an error too.
    if (m.type() === 'error' && !/Failed to load resource|Failed to fetch dynamically imported module/.test(m.text())) fail(`console: ${m.text()}`, page);
  });
  page.on('request', (r) => {
    if (!r.url().startsWith(server) && !/^(data|blob):/.test(r.url())) fail(`request to ${r.url()}`, page);
  });
  return page;
}

// settle waits until nothing is loading.
async function settle(page) {
  await page.waitForFunction(() => document.querySelector('h1') && !document.querySelector('.mantine-Skeleton-root'));
  await page.waitForTimeout(150);
}

// inside waits until somebody is signed in: the entrance has a heading too.
async function inside(page) {
  await page.locator('.brand').waitFor().catch(async (e) => {
    await page.screenshot({ path: `${shots}/not-inside.png` });
    throw new Error(`${page.url()}: ${await page.locator('main').innerText().catch(() => '')}: ${e.message}`);
  });
  await settle(page);
}

async function inspect(page, name, withAxe) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  must(wide <= 0, `${name} is ${wide} px wider than the screen`, page);
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
  if (!withAxe) return;
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  for (const v of found.violations) {
    for (const n of v.nodes) axeFound(v, `${n.target.join(' ')}: ${n.any[0]?.message ?? n.failureSummary}`, page);
  }
}

// The same finding is told once, with how often it was there.
const known = new Map();
function axeFound(v, what, page) {
  const key = `axe ${v.id} ${what.replace(/#mantine-\w+/g, '#').replace(/datetime="[^"]*"/g, '').slice(0, 400)}`;
  const n = known.get(key) ?? 0;
  known.set(key, n + 1);
  if (n === 0) fail(key, page);
}

async function ask(path, body) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const headers = { Authorization: `Bearer ${token}` };
  const r = body ? await context.request.post(`${server}${path}`, { headers, data: body }) : await context.request.get(`${server}${path}`, { headers });
  const out = await r.json();
  if (!r.ok()) throw new Error(`${path}: ${JSON.stringify(out)}`);
  await context.close();
  return out;
}

const password = 'sewn on a worn cloth, gold';

// comeIn uses a link, sets a password, and keeps the session for others.
async function comeIn(link, way) {
  const page = await open(way);
  await page.goto(link);
  await page.locator('input[autocomplete=new-password]').first().waitFor();
  must(!page.url().includes('#'), 'the secret of a link stays in the address');
  await page.locator('input[autocomplete=new-password]').nth(0).fill(password);
  await page.locator('input[autocomplete=new-password]').nth(1).fill(password);
  return page;
}

let owner; // the session of the first admin
let eve; // of who may only look
let mia; // of who operates the machines of one group

async function pages() {
  const all = (await ask('/v1/machines?limit=1000')).items;
  const sick = all.find((m) => m.hostname.startsWith('canary-02')) ?? all[0];
  const fine = all.find((m) => m.protection === 'protected') ?? all[0];
  const odd = all.find((m) => m.hostname.startsWith('appliance')) ?? all[0];
  const patches = (await ask('/v1/livepatches')).items;
  const jobs = (await ask('/v1/jobs')).items;
  const people = (await ask('/v1/users')).items;
  const rollouts = (await ask('/v1/rollouts')).items;
  return [
    ['overview', '/'],
    ['machines', '/machines'],
    ['machines-filtered', '/machines?protection=outdated&tier=stable'],
    ['machines-none', '/machines?q=nosuchhost'],
    ['machine-sick', `/machines/${sick.id}`],
    ['machine-fine', `/machines/${fine.id}`],
    ['machine-odd', `/machines/${odd.id}`],
    ['livepatches', '/livepatches'],
    ['livepatch', `/livepatches/${patches.find((p) => p.version === 2).id}`],
    ['livepatch-blocked', `/livepatches/${patches.find((p) => p.blocked).id}`],
    ['cve-open', '/cves/CVE-2026-31431'],
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
    ['settings', '/settings'],
    ['account', '/account'],
    ['users', '/users'],
    ['user', `/users/${people.find((u) => u.name === 'mia').id}`],
    ['sessions', '/sessions'],
    ['keys', '/keys'],
    ['approvals', '/approvals?all=true'],
    ['notifications', '/notifications'],
    ['rollouts', '/rollouts'],
    ...rollouts.map((r) => [`rollout-${r.phase}`, `/rollouts/${r.id}`]),
    ['nosuchpage', '/nosuchpage'],
    ['nosuchmachine', '/machines/01900000-0000-7000-8000-000000000000'],
  ];
}

async function gallery() {
  const list = await pages();
  const ways = [
    { name: 'desk-en', viewport: desk, language: 'en', axe: true },
    { name: 'phone-ja', viewport: phone, language: 'ja', scheme: 'dark', axe: true },
    { name: 'desk-ja', viewport: desk, language: 'ja', scheme: 'dark', axe: true, all: true },
    { name: 'phone-en', viewport: phone, language: 'en', axe: true, all: true },
  ].filter((w) => !w.all || process.env.TSUGI_LOOK_ALL);
  await Promise.all(
    ways.map(async (w) => {
      const page = await open({ ...w, state: owner });
      for (const [name, path] of list) {
        where.set(page, `${w.name} ${name}`);
        await page.goto(home + path);
        await settle(page);
        must((await page.locator('html').getAttribute('lang')) === w.language, 'the language of the page is another', page);
        await inspect(page, `${w.name}-${name}`, w.axe);
      }
      await page.context().close();
    }),
  );
}

async function login() {
  doing = 'link';
  const first = await comeIn(process.env.TSUGI_LINK, { viewport: phone, language: 'ja', scheme: 'dark' });
  await inspect(first, 'phone-ja-link', true);
  await first.getByRole('button', { name: 'ログイン' }).click();
  await inside(first);
  owner = await first.context().storageState();
  must(owner.cookies.every((c) => c.httpOnly && c.secure && c.sameSite === 'Lax'), 'the cookie of the session can be read by scripts, or leaves TLS');
  must(await first.evaluate(() => sessionStorage.length === 0), 'something of the session is where scripts can read it');
  await first.context().close();
  doing = 'a link that was used';
  const again = await open({ viewport: desk, language: 'en' });
  await again.goto(process.env.TSUGI_LINK);
  await again.getByRole('alert').waitFor();
  await inspect(again, 'desk-en-link-used', true);
  await again.context().close();

  doing = 'others come in';
  const made = [];
  for (const body of [{ name: 'eve', grants: [{ role: 'viewer' }] }, { name: 'mia', display: 'Mia <b>Operator</b>', grants: [{ role: 'operator', groups: ['web'] }] }]) {
    const page = await comeIn((await ask('/v1/users', body)).link, { viewport: desk, language: 'en' });
    await page.getByRole('button', { name: 'Log in' }).click();
    await inside(page);
    made.push(await page.context().storageState());
    await page.context().close();
  }
  [eve, mia] = made;

  doing = 'login';
  const page = await open({ viewport: phone, language: 'ja' });
  await page.goto(`${home}/machines?q=db-`);
  await page.getByLabel('ユーザー名').waitFor();
  await inspect(page, 'phone-ja-login', true);
  await page.getByLabel('言語').selectOption('en');
  await page.getByLabel('Name', { exact: true }).fill('owner');
  await page.getByLabel('Password', { exact: true }).fill('not the password at all');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').waitFor();
  await inspect(page, 'phone-en-login-refused', true);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.keyboard.press('Enter');
  await inside(page);
  must(page.url() === `${home}/machines?q=db-`, `after the login the page is ${page.url()}`);
  await page.getByRole('link', { name: /^db-/ }).first().waitFor();
  await page.getByRole('button', { name: 'Menu' }).click();
  await page.getByRole('link', { name: 'Audit log' }).waitFor();
  await page.waitForTimeout(300);
  await inspect(page, 'phone-en-menu', true);
  await page.getByRole('button', { name: /^Log out/ }).last().click();
  await page.getByRole('button', { name: 'Log in' }).waitFor();
  await page.reload();
  await page.getByRole('button', { name: 'Log in' }).waitFor();
  doing = 'login with a key';
  await page.getByRole('button', { name: 'Use an API key instead' }).click();
  await page.getByLabel('API key', { exact: true }).fill(token);
  await page.keyboard.press('Enter');
  await inside(page);
  await page.context().close();
}

// account is what somebody does with their own: a second factor and an API key.
async function account() {
  const page = await open({ viewport: desk, language: 'en', state: eve });
  doing = 'an API key';
  await page.goto(`${home}/account`);
  await settle(page);
  await page.getByRole('button', { name: 'New key' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('scripts');
  await page.getByRole('dialog').getByLabel('see how things stand').check();
  await inspect(page, 'desk-en-new-key', true);
  await page.getByRole('dialog').getByRole('button', { name: 'New key' }).click();
  await page.getByText(/^tso_/).waitFor();
  const key = await page.getByText(/^tso_/).textContent();
  await page.getByRole('button', { name: 'Done' }).click();
  const got = await page.request.get(`${server}/v1/whoami`, { headers: { Authorization: `Bearer ${key}` } });
  must(got.ok() && Object.keys((await got.json()).may).join() === 'look', 'the key can do something else than it was made for');

  doing = 'a second factor';
  await page.getByRole('button', { name: 'Add an authenticator' }).click();
  await page.getByRole('img', { name: 'QR code for an authenticator app' }).waitFor();
  await inspect(page, 'desk-en-totp', true);
  const secret = await page.getByRole('dialog').locator('code').textContent();
  await page.getByLabel('The code that it shows').fill(totp(secret));
  await page.getByRole('dialog').getByRole('button', { name: 'Add an authenticator' }).click();
  await page.getByRole('button', { name: 'I have kept them' }).waitFor();
  await inspect(page, 'desk-en-codes', true);
  const code = await page.locator('.codes code').first().textContent();
  await page.getByRole('button', { name: 'I have kept them' }).click();
  await page.getByRole('button', { name: 'Remove the authenticator' }).waitFor();

  doing = 'login with a second factor';
  const other = await open({ viewport: phone, language: 'en' });
  await other.goto(`${home}/`);
  await other.getByLabel('Name', { exact: true }).fill('eve');
  await other.getByLabel('Password', { exact: true }).fill(password);
  await other.keyboard.press('Enter');
  await other.getByLabel('Code of the second factor').waitFor();
  await inspect(other, 'phone-en-code', true);
  await other.getByLabel('Code of the second factor').fill(code);
  await other.keyboard.press('Enter');
  await inside(other);
  await other.context().close();

  doing = 'another session is ended';
  await page.reload();
  await settle(page);
  await page.getByRole('button', { name: /^End:/ }).first().click();
  await page.getByRole('dialog').getByRole('button', { name: 'End' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.context().close();
}

// totp is the code of an authenticator that has a secret.
function totp(secret) {
  const bits = [...secret.replace(/[^A-Z2-7]/g, '')].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((b) => parseInt(b, 2)));
  const at = Buffer.alloc(8);
  at.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const h = createHmac('sha1', key).update(at).digest();
  return String((h.readUInt32BE(h[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

// live is what is told to a page that is open: somebody else's change is there
// before the page would have asked.
async function live() {
  doing = 'a change is told';
  const page = await open({ viewport: desk, language: 'en', state: owner });
  await page.goto(`${home}/tokens`);
  await settle(page);
  await page.locator('.live[data-on]').first().waitFor();
  const name = `told-${Date.now() % 100_000}`;
  await ask('/v1/tokens', { name });
  const begun = Date.now();
  await page.getByText(name).waitFor({ timeout: 12_000 });
  console.log(`told after ${Date.now() - begun} ms`);
  await page.context().close();
}

// story is what an operator does in a day, with the keyboard where a keyboard is wanted.
async function story() {
  const page = await open({ viewport: desk, language: 'en', state: owner });
  doing = 'are we exposed';
  await page.goto(`${home}/`);
  await settle(page);
  await page.getByPlaceholder('CVE-2026-31431').fill('cve-2026-31431');
  await page.keyboard.press('Enter');
  await page.getByText(/protected by a live patch on [0-9,]+ machines?, open on/).waitFor();
  await inspect(page, 'desk-en-exposed', true);

  doing = 'search';
  await page.goto(`${home}/`);
  await settle(page);
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox', { name: 'Search' }).waitFor();
  await page.keyboard.type('canary');
  await page.getByRole('option', { name: /canary-02/ }).waitFor();
  await inspect(page, 'desk-en-search', true);
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: /canary-02/ }).waitFor();
  await settle(page);
  must(await page.evaluate(() => document.activeElement?.tagName === 'H1'), 'the heading of a page that opens has not the focus');
  await page.keyboard.press('/');
  await page.getByRole('combobox', { name: 'Search' }).waitFor();
  await page.keyboard.type('2026-31431');
  await page.getByRole('option', { name: /CVE-2026-31431/ }).waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { level: 1, name: 'CVE-2026-31431' }).waitFor();

  doing = 'filter and pages';
  await page.goto(`${home}/machines`);
  await settle(page);
  await page.getByRole('button', { name: 'Next' }).click();
  await page.waitForURL(/after=/);
  await page.getByRole('button', { name: 'Previous' }).click();
  await page.waitForURL((u) => !u.search.includes('after='));
  await page.getByRole('textbox', { name: 'Search' }).fill('osaka');
  await page.waitForURL(/q=osaka/);
  await page.waitForFunction(() => !document.querySelector('[data-stale]') && [...document.querySelectorAll('tbody tr')].every((r) => r.textContent.includes('osaka')));
  await page.getByRole('button', { name: 'Save this view' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('Osaka');
  await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await inspect(page, 'desk-en-view', true);
  const csv = page.waitForEvent('download');
  await page.getByRole('button', { name: 'CSV' }).click();
  const text = readFileSync(await (await csv).path(), 'utf8');
  must(/^\ufeffid,hostname,protection/.test(text) && text.split('\r\n').length === 18, `the CSV has ${text.split('\r\n').length} lines`);

  doing = 'exclude with a preview';
  await page.goto(`${home}/policies/databases`);
  await settle(page);
  await page.getByRole('button', { name: 'Exclude', exact: true }).click();
  await page.getByLabel(/CVE, or the id/).fill('cve-2026-12345');
  await page.getByRole('dialog').getByText(/Goes:/).first().waitFor();
  await page.getByRole('dialog').getByText('CVE-2026-12346').first().waitFor(); // dragged along
  must(await page.evaluate(() => [...document.querySelectorAll('.mantine-Badge-label')].every((b) => b.scrollWidth <= b.clientWidth + 1)), 'the word of a badge is cut');
  await inspect(page, 'desk-en-exclude', true);
  await page.getByRole('dialog').getByLabel('Reason').fill('<img src=x onerror=alert(1)>');
  await page.getByRole('dialog').getByRole('button', { name: 'Exclude', exact: true }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByText('<img src=x onerror=alert(1)>').waitFor();
  must((await page.locator('img[src="x"]').count()) === 0, 'a reason became markup');

  doing = 'compare';
  await page.getByLabel('With policy').selectOption('default');
  await page.getByText(/Comes:/).first().waitFor();
  await inspect(page, 'desk-en-compare', true);

  doing = 'promote';
  await page.goto(`${home}/livepatches?tier=beta`);
  await settle(page);
  await page.getByRole('link', { name: /-v3$/ }).click();
  await page.getByRole('button', { name: 'Promote' }).click();
  await inspect(page, 'desk-en-promote', true);
  await page.getByRole('dialog').getByRole('button', { name: 'Promote' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByRole('status').getByText('promoted').waitFor();

  doing = 'token';
  await page.goto(`${home}/tokens`);
  await settle(page);
  await page.getByRole('button', { name: 'New token' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('laptops');
  await page.keyboard.press('Enter');
  await page.getByText(/tsugi enroll tsugi1\./).waitFor();
  await inspect(page, 'desk-en-token', true);
  await page.getByRole('button', { name: 'Done' }).click();

  doing = 'a change that the server refuses';
  await page.goto(`${home}/tiers`);
  await settle(page);
  await page.getByRole('button', { name: 'New tier' }).click();
  await page.getByRole('dialog').getByLabel('Tier').fill('stable');
  await page.getByRole('dialog').getByRole('button', { name: 'New tier' }).click();
  await page.getByRole('alert').waitFor();
  await inspect(page, 'desk-en-refused', true);

  doing = 'live log';
  await page.goto(`${home}/jobs?state=running`);
  await settle(page);
  await page.locator('tbody a').first().click();
  await page.getByRole('log').waitFor();

  doing = 'the server is away';
  await page.goto(`${home}/audit`);
  await settle(page);
  await page.getByRole('link', { name: 'Tiers' }).click();
  await page.getByRole('heading', { level: 1, name: 'Tiers' }).waitFor();
  await page.context().setOffline(true);
  await page.getByRole('link', { name: 'Updates' }).click(); // its file was never fetched
  await page.getByRole('heading', { level: 1, name: 'This page could not be shown' }).waitFor();
  await page.waitForTimeout(2_500); // what is younger is not asked for again
  await page.getByRole('link', { name: 'Audit log' }).click(); // its file was, its data is old
  await page.getByRole('alert').getByText('The server does not answer').waitFor();
  await inspect(page, 'desk-en-offline', false);
  await page.context().setOffline(false);
  await page.getByRole('button', { name: 'Try again' }).first().click();
  await page.getByRole('alert').waitFor({ state: 'detached' });
  await page.context().close();
}

// reader sees everything and is offered nothing; who operates one group is
// offered what is of that group.
async function reader() {
  doing = 'reader';
  const page = await open({ viewport: desk, language: 'en', state: eve });
  for (const [path, name] of [['/tokens', 'New token'], ['/tiers', 'New tier'], ['/policies', 'New policy'], ['/policies/databases', 'Exclude'], ['/jobs', 'Queue a build'], ['/keys', 'New key of a program'], ['/rollouts', 'New rollout']]) {
    await page.goto(home + path);
    await settle(page);
    must((await page.getByRole('button', { name, exact: true }).count()) === 0, `who may only read is shown ${name}`);
  }
  must((await page.getByRole('link', { name: 'People' }).count()) === 0, 'who may only read is shown the way to people');
  await page.context().close();

  doing = 'operator of one group';
  const scoped = await open({ viewport: desk, language: 'en', state: mia });
  await scoped.goto(`${home}/machines`);
  await settle(scoped);
  await scoped.getByRole('link', { name: /^web-/ }).first().waitFor();
  must((await scoped.getByRole('link', { name: /^db-/ }).count()) === 0, 'who operates one group sees machines of another');
  await scoped.getByRole('link', { name: /^web-/ }).first().click();
  await scoped.getByRole('button', { name: 'Change' }).waitFor();
  await scoped.goto(`${home}/livepatches`);
  await settle(scoped);
  must((await scoped.getByRole('button', { name: 'Publish' }).count()) === 0, 'who operates one group is shown Publish');
  await inspect(scoped, 'desk-en-scoped', true);
  await scoped.context().close();
}

async function policy() {
  doing = 'policy of the page';
  const page = await open({ viewport: desk, language: 'en', state: owner });
  const r = await page.goto(`${home}/`);
  const csp = r.headers()['content-security-policy'] ?? '';
  must(csp.includes("script-src 'self';") && !csp.includes('unsafe'), `the policy is ${csp}`);
  await settle(page);
  const refused = await page.evaluate(async () => {
    let n = 0;
    document.addEventListener('securitypolicyviolation', () => n++);
    const s = document.createElement('script');
    s.textContent = 'globalThis.broken = true';
    document.body.append(s);
    const y = document.createElement('style');
    y.textContent = 'body { display: none }';
    document.body.append(y);
    await new Promise((done) => setTimeout(done, 100));
    return n === 2 && globalThis.broken === undefined;
  });
  must(refused, 'a script or style sheet without a nonce is taken');
  failures.splice(0, failures.length, ...failures.filter((f) => !(f.startsWith(doing) && f.includes('Content Security Policy'))));
  await page.context().close();
}

try {
  const only = process.env.TSUGI_LOOK?.split(','); // names of steps, for who works on one
  for (const step of [login, gallery, account, story, live, reader, policy]) if (!only || step === login || only.includes(step.name)) await step();
} catch (e) {
  fail(e.stack ?? String(e));
}
await browser.close();
console.log(failures.length === 0 ? 'all pages looked at' : `${failures.length} failures`);
process.exitCode = failures.length === 0 ? 0 : 1;
