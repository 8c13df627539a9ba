// SPDX-License-Identifier: Apache-2.0
//
// The whole story on a fleet that is alive, as a person goes through it: come in
// by a link, exclude a CVE, watch the build and its proof, start a rollout, see
// it halt because machines went down, take it out again. demo/look.sh is the
// fleet; test/console runs both.
//
//   node story.mjs LINK [DIRECTORY-FOR-PICTURES]
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [link, shots = ''] = process.argv.slice(2);
const server = new URL(link).origin;
const home = `${server}/console`;
const target = 'debian:6.1.0-54-amd64';
const excluded = 'CVE-2026-90099';
if (shots) mkdirSync(shots, { recursive: true });

const failures = [];
const begun = Date.now();
const tell = (what) => console.log(`${((Date.now() - begun) / 1000).toFixed(1).padStart(6)} s  ${what}`);
const fail = (what) => {
  failures.push(what);
  tell(`FAIL ${what}`);
};

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-renderer-priority-management'],
});
const context = await browser.newContext({
  viewport: { width: 1280, height: 900 }, ignoreHTTPSErrors: true, locale: 'en-GB', timezoneId: 'Asia/Tokyo', colorScheme: 'light', reducedMotion: 'reduce',
});

async function open() {
  const page = await context.newPage();
  page.setDefaultTimeout(60_000); // a machine that does other things too
  page.on('pageerror', (e) => fail(`exception: ${e.message}`));
  page.on('console', (m) => {
    if (m.type() === 'error' && !/Failed to load resource/.test(m.text())) fail(`console: ${m.text()}`);
  });
  page.on('request', (r) => {
    if (!r.url().startsWith(server) && !/^(data|blob):/.test(r.url())) fail(`request to ${r.url()}`);
  });
  return page;
}

const settle = async (page) => {
  await page.waitForFunction(() => document.querySelector('h1') && !document.querySelector('.mantine-Skeleton-root'));
  await page.waitForTimeout(300);
};

async function shot(page, name) {
  await settle(page);
  if (!shots) return;
  await page.screenshot({ path: `${shots}/${name}.png` });
  tell(`picture ${name}`);
}

// ask is what the session may ask.
async function ask(page, path) {
  const r = await page.request.get(`${server}${path}`);
  if (!r.ok()) throw new Error(`${path}: ${r.status()} ${await r.text()}`);
  return r.json();
}

async function until(what, seconds, found) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const got = await found();
    if (got) {
      tell(what);
      return got;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await new Promise((r) => setTimeout(r, 1000));
  }
}

const patch = async (page, version) => (await ask(page, `/v1/livepatches?target=${encodeURIComponent(target)}`)).items.find((p) => p.version === version);

async function story() {
  const page = await open();
  await page.goto(link);
  await page.locator('form button[type=submit]').click();
  await page.getByRole('heading', { level: 1 }).waitFor();
  tell('came in by the link');
  const first = await until('the first live patch is in the tier stable', 240, async () => ((await patch(page, 1))?.tiers ?? []).includes('stable'));
  if (!first) return;
  await until('most of the fleet is protected', 120, async () => ((await ask(page, '/v1/overview')).protections?.protected ?? 0) > 200);
  await page.goto(`${home}/`);
  await shot(page, 'overview');
  await page.goto(`${home}/machines`);
  await shot(page, 'machines');

  await page.goto(`${home}/policies/default`);
  await page.getByRole('button', { name: 'Exclude' }).first().click();
  let dialog = page.getByRole('dialog');
  await dialog.getByPlaceholder('CVE-2026-31431').fill(excluded);
  await dialog.getByLabel('Reason').fill('The classifiers of our gateways stall with it: NET-412');
  await page.waitForTimeout(1500);
  await shot(page, 'exclude');
  await dialog.getByRole('button', { name: 'Exclude' }).click();
  await dialog.waitFor({ state: 'hidden' });
  tell(`${excluded} is excluded`);

  const job = await until('a build has begun', 90, async () => (await ask(page, '/v1/jobs')).items.find((j) => j.state === 'running'));
  await page.goto(`${home}/jobs/${job.id}`);
  await until('version 2 is built, proven and published', 300, async () => patch(page, 2));
  await shot(page, 'build'); // the page followed it to its end
  const second = await patch(page, 2);
  if (!second.proven) fail('version 2 is not proven');
  if (second.cves.includes(excluded)) fail(`version 2 has ${excluded}`);
  await page.goto(`${home}/livepatches/${second.id}`);
  await shot(page, 'livepatch');

  await page.goto(`${home}/rollouts`);
  await page.getByRole('button', { name: 'New rollout' }).click();
  dialog = page.getByRole('dialog');
  await dialog.getByLabel('Live patch', { exact: true }).selectOption(second.id);
  await dialog.getByLabel('Tier', { exact: true }).selectOption('stable');
  await page.waitForTimeout(2000);
  await shot(page, 'new-rollout');
  await dialog.getByRole('button', { name: 'Begin' }).click();
  await page.waitForURL(/\/rollouts\/[0-9a-f-]+$/);
  const id = page.url().split('/').at(-1);
  tell('the rollout has begun');
  const rollout = () => ask(page, `/v1/rollouts/${id}`);
  await page.waitForTimeout(6000);
  await shot(page, 'rollout');
  const halted = await until('it halted by itself', 420, async () => {
    const r = await rollout();
    if (r.phase === 'done') throw new Error('the rollout is through, and machines went down with it');
    return r.phase === 'halted' && r;
  });
  if (halted.by) fail(`it was halted by ${halted.by}`);
  if (!(halted.health.crashes > halted.health.may_crash)) fail('it halted within its budget');
  await page.getByRole('alert').first().waitFor(); // the page says so without being asked
  await shot(page, 'rollout-halted');
  tell(`${halted.health.had} of ${halted.health.machines} machines have had it: ${halted.reason}`);

  await page.getByRole('button', { name: 'Take it out' }).click();
  dialog = page.getByRole('dialog');
  await dialog.getByLabel('Reason').fill('Machines go down with it');
  await dialog.getByRole('button', { name: 'Take it out' }).click();
  await until('it is out of all machines', 120, async () => (await rollout()).phase === 'aborted');
  await until('no machine has it', 60, async () => {
    const all = (await ask(page, '/v1/machines?limit=1000')).items;
    return !all.some((m) => m.patch.id === second.id && ['applied', 'healthy', 'transitioning', 'loading'].includes(m.patch.state));
  });
  await page.waitForTimeout(2500);
  await shot(page, 'rollout-reverted');
  await page.goto(`${home}/audit`);
  await shot(page, 'audit');

  const small = await browser.newContext({
    viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, ignoreHTTPSErrors: true, locale: 'ja-JP', timezoneId: 'Asia/Tokyo', colorScheme: 'dark', reducedMotion: 'reduce',
    storageState: await context.storageState(),
  });
  const phone = await small.newPage();
  phone.setDefaultTimeout(60_000);
  await phone.goto(`${home}/rollouts/${id}`);
  await settle(phone);
  const wide = await phone.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) fail(`the rollout's page is ${wide} px wider than a phone`);
  await phone.screenshot({ path: `${shots}/phone.png` });
  tell('picture phone');
}

try {
  await story();
} catch (e) {
  fail(e.message);
  for (const page of context.pages()) await page.screenshot({ path: `${shots}/failed.png` }).catch(() => {});
}
await browser.close();
if (failures.length > 0) {
  console.log(`${failures.length} failures`);
  process.exit(1);
}
