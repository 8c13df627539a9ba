// SPDX-License-Identifier: Apache-2.0

// Goes through the console of a server with a browser, as a person would, and
// fails on the first thing that must not be: an error in the browser's console,
// a request to anywhere else, what the page's policy refused, a page that is
// wider than a phone, what axe finds. test/console starts the server.
//
//   TSUGI_TOKEN=tso_… [TSUGI_READER=tso_…] node look.mjs https://127.0.0.1:8443 DIRECTORY-FOR-PICTURES
import { mkdirSync, readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [server, shots] = process.argv.slice(2);
const token = process.env.TSUGI_TOKEN;
const home = `${server}/console`;
const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
mkdirSync(shots, { recursive: true });

const failures = [];
let doing = '';
const fail = (what) => {
  failures.push(`${doing}: ${what}`);
  console.log(`FAIL ${doing}: ${what}`);
};
const must = (ok, what) => ok || fail(what);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-renderer-priority-management'],
});

const desk = { width: 1280, height: 900 };
const phone = { width: 390, height: 844 };

// open makes a browser of somebody who has been here before, or never was.
async function open({ viewport, language, scheme, credential }) {
  const context = await browser.newContext({
    viewport, ignoreHTTPSErrors: true, colorScheme: scheme ?? 'light', locale: language === 'ja' ? 'ja-JP' : 'en-GB', timezoneId: 'Asia/Tokyo',
    hasTouch: viewport.width < 500, deviceScaleFactor: viewport.width < 500 ? 2 : 1, reducedMotion: 'reduce', acceptDownloads: true,
  });
  if (credential) await context.addInitScript((c) => sessionStorage.getItem('tsugi.out') ?? sessionStorage.setItem('tsugi.credential', c), credential);
  const page = await context.newPage();
  page.setDefaultTimeout(60_000); // a machine that does other things too
  page.on('pageerror', (e) => fail(`exception: ${e.message}`));
  page.on('console', (m) => {
    // What the server refuses on purpose is shown by the browser as an error too.
    if (m.type() === 'error' && !/Failed to load resource|Failed to fetch dynamically imported module/.test(m.text())) fail(`console: ${m.text()}`);
  });
  page.on('request', (r) => {
    if (!r.url().startsWith(server) && !/^(data|blob):/.test(r.url())) fail(`request to ${r.url()}`);
  });
  return page;
}

// settle waits until nothing is loading.
async function settle(page) {
  await page.waitForFunction(() => document.querySelector('h1') && !document.querySelector('.mantine-Skeleton-root'));
  await page.waitForTimeout(150);
}

async function inspect(page, name, withAxe) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  must(wide <= 0, `${name} is ${wide} px wider than the screen`);
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
  if (!withAxe) return;
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  for (const v of found.violations) {
    for (const n of v.nodes) axeFound(v, `${n.target.join(' ')}: ${n.any[0]?.message ?? n.failureSummary}`);
  }
}

// The same finding is told once, with how often it was there.
const known = new Map();
function axeFound(v, what) {
  const key = `axe ${v.id} ${what.replace(/#mantine-\w+/g, '#').replace(/datetime="[^"]*"/g, '').slice(0, 400)}`;
  const n = known.get(key) ?? 0;
  known.set(key, n + 1);
  if (n === 0) fail(key);
}

async function ask(path) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const r = await context.request.get(`${server}${path}`, { headers: { Authorization: `Bearer ${token}` } });
  const body = await r.json();
  await context.close();
  return body;
}

async function pages() {
  const all = (await ask('/v1/machines?limit=1000')).items;
  const sick = all.find((m) => m.hostname.startsWith('canary-02')) ?? all[0];
  const fine = all.find((m) => m.protection === 'protected') ?? all[0];
  const odd = all.find((m) => m.hostname.startsWith('appliance')) ?? all[0];
  const patches = (await ask('/v1/livepatches')).items;
  const jobs = (await ask('/v1/jobs')).items;
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
    ['nosuchpage', '/nosuchpage'],
    ['nosuchmachine', '/machines/01900000-0000-7000-8000-000000000000'],
  ];
}

async function gallery() {
  const list = await pages();
  const ways = [
    { name: 'desk-en', viewport: desk, language: 'en', axe: true },
    { name: 'desk-ja', viewport: desk, language: 'ja', scheme: 'dark', axe: true },
    { name: 'phone-en', viewport: phone, language: 'en', scheme: 'dark', axe: false },
    { name: 'phone-ja', viewport: phone, language: 'ja', axe: true },
  ];
  for (const w of ways) {
    const page = await open({ ...w, credential: token });
    for (const [name, path] of list) {
      doing = `${w.name} ${name}`;
      await page.goto(home + path);
      await settle(page);
      must((await page.locator('html').getAttribute('lang')) === w.language, 'the language of the page is another');
      await inspect(page, `${w.name}-${name}`, w.axe);
    }
    await page.context().close();
  }
}

async function login() {
  doing = 'login';
  const page = await open({ viewport: phone, language: 'ja' });
  await page.goto(`${home}/machines?q=db-`);
  await inspect(page, 'phone-ja-login', true);
  await page.getByLabel('言語').selectOption('en');
  await page.getByLabel('Operator token', { exact: true }).fill('tso_wrong');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('alert').waitFor();
  await inspect(page, 'phone-en-login-refused', true);
  await page.getByLabel('Operator token', { exact: true }).fill(token);
  await page.keyboard.press('Enter');
  await settle(page);
  must(page.url() === `${home}/machines?q=db-`, `after the login the page is ${page.url()}`);
  await page.getByRole('link', { name: /^db-/ }).first().waitFor();
  await page.getByRole('button', { name: 'Menu' }).click();
  await page.getByRole('link', { name: 'Audit log' }).waitFor();
  await page.waitForTimeout(300);
  await inspect(page, 'phone-en-menu', true);
  await page.getByRole('button', { name: /^Log out/ }).last().click();
  await page.getByRole('button', { name: 'Log in' }).waitFor();
  await page.context().close();
}

// story is what an operator does in a day, with the keyboard where a keyboard is wanted.
async function story() {
  const page = await open({ viewport: desk, language: 'en', credential: token });
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
  await page.getByRole('link', { name: 'Audit log' }).click(); // its file was, its data is old
  await page.getByRole('alert').getByText('The server does not answer').waitFor();
  await inspect(page, 'desk-en-offline', false);
  await page.context().setOffline(false);
  await page.getByRole('button', { name: 'Try again' }).first().click();
  await page.getByRole('alert').waitFor({ state: 'detached' });
  await page.context().close();
}

async function reader() {
  if (!process.env.TSUGI_READER) return;
  doing = 'reader';
  const page = await open({ viewport: desk, language: 'en', credential: process.env.TSUGI_READER });
  for (const [path, name] of [['/tokens', 'New token'], ['/tiers', 'New tier'], ['/policies', 'New policy'], ['/policies/databases', 'Exclude'], ['/jobs', 'Queue a build'], ['/settings', 'New operator']]) {
    await page.goto(home + path);
    await settle(page);
    await page.getByText('eve', { exact: false }).first().waitFor();
    must((await page.getByRole('button', { name, exact: true }).count()) === 0, `who may only read is shown ${name}`);
  }
  await page.context().close();
}

async function policy() {
  doing = 'policy of the page';
  const page = await open({ viewport: desk, language: 'en', credential: token });
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
  for (const step of [login, gallery, story, reader, policy]) if (!only || only.includes(step.name)) await step();
} catch (e) {
  fail(e.stack ?? String(e));
}
await browser.close();
console.log(failures.length === 0 ? 'all pages looked at' : `${failures.length} failures`);
process.exitCode = failures.length === 0 ? 0 : 1;
