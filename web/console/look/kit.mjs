// SPDX-License-Identifier: Apache-2.0

// What looks at pages: a browser, and what must never be on a page, which is
// looked for on each.
import { mkdirSync, readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

export const [server, shots = ''] = process.argv.slice(2); // '': no pictures are kept
export const home = `${server}/console`;
export const token = process.env.TSUGI_TOKEN;
export const password = 'sewn on a worn cloth, gold';
export const desk = { width: 1280, height: 900 };
export const phone = { width: 390, height: 844 };

const axe = readFileSync(new URL('../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
if (shots) mkdirSync(shots, { recursive: true });

export const failures = [];
const now = { doing: '' };
export const doing = (what) => (now.doing = what);
const where = new WeakMap(); // what a page does that is not alone
export const at = (page, what) => where.set(page, what);
const expected = new WeakSet(); // pages whose policy is broken on purpose
export const expectRefusals = (page) => expected.add(page);

export function fail(what, page) {
  const place = (page && where.get(page)) ?? now.doing;
  failures.push(`${place}: ${what}`);
  console.log(`FAIL ${place}: ${what}`);
}
export const must = (ok, what, page) => ok || fail(what, page);

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-renderer-priority-management'],
});

// open makes a browser of somebody who has been here before, or never was.
export async function open({ viewport, language, scheme, state, elsewhere = [] }) {
  const context = await browser.newContext({
    viewport, ignoreHTTPSErrors: true, colorScheme: scheme ?? 'light', locale: language === 'ja' ? 'ja-JP' : 'en-GB', timezoneId: 'Asia/Tokyo',
    hasTouch: viewport.width < 500, deviceScaleFactor: viewport.width < 500 ? 2 : 1, reducedMotion: 'reduce', acceptDownloads: true,
    ...(state ? { storageState: state } : {}),
  });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: server });
  await context.addInitScript(() => {
    globalThis.refused = []; // by the policy of the page
    document.addEventListener('securitypolicyviolation', (e) => globalThis.refused.push(`${e.violatedDirective} ${e.blockedURI}`));
  });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000); // a machine that does other things too
  page.on('pageerror', (e) => fail(`exception: ${e.message}`, page));
  page.on('console', (m) => {
    // What the server refuses on purpose is shown by the browser as an error too.
    if (m.type() === 'error' && !expected.has(page) && !/Failed to load resource|Failed to fetch dynamically imported module/.test(m.text())) fail(`console: ${m.text()}`, page);
  });
  page.on('request', (r) => {
    if (![server, ...elsewhere].some((s) => r.url().startsWith(s)) && !/^(data|blob):/.test(r.url())) fail(`request to ${r.url()}`, page);
  });
  return page;
}

// settle waits until nothing is loading, and says when that was, in
// milliseconds since the browser began to open the page.
export async function settle(page) {
  const usable = await page.waitForFunction(() => document.querySelector('h1') && !document.querySelector('.mantine-Skeleton-root') && performance.now());
  await page.waitForTimeout(100);
  return usable.jsonValue();
}

// inside waits until somebody is signed in: the entrance has a heading too.
export async function inside(page) {
  await page.locator('.brand').waitFor().catch(async (e) => {
    if (shots) await page.screenshot({ path: `${shots}/not-inside.png` });
    throw new Error(`${page.url()}: ${await page.locator('main').innerText().catch(() => '')}: ${e.message}`);
  });
  await settle(page);
}

// inspect looks at a page as it is: that it is no wider than the screen, that
// nothing of what people and machines wrote runs in it (test/console gives them
// hostile words), what axe finds; and takes its picture.
export async function inspect(page, name, withAxe = true) {
  const found = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth - window.innerWidth,
    ran: globalThis.hostile !== undefined || document.querySelectorAll('img[src="x"]').length > 0,
    refused: globalThis.refused,
    words: document.body.innerText.includes('globalThis.hostile=1'),
  }));
  must(found.wide <= 0, `${name} is ${found.wide} px wider than the screen`, page);
  must(!found.ran, `${name}: what somebody wrote became markup`, page);
  must(found.refused.length === 0, `${name}: the policy of the page refused ${found.refused.join(', ')}`, page);
  if (shots) await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
  if (withAxe) {
    await page.evaluate(axe);
    const axes = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    for (const v of axes.violations) {
      for (const n of v.nodes) axeFound(v, `${n.target.join(' ')}: ${n.any[0]?.message ?? n.failureSummary}`, page);
    }
  }
  return found;
}

// The same finding is told once, with how often it was there.
const known = new Map();
function axeFound(v, what, page) {
  const key = `axe ${v.id} ${what.replace(/#mantine-\w+/g, '#').replace(/datetime="[^"]*"/g, '').slice(0, 400)}`;
  const n = known.get(key) ?? 0;
  known.set(key, n + 1);
  if (n === 0) fail(key, page);
}

// ask is what the first token may do, without a browser.
export async function ask(path, body) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const headers = { Authorization: `Bearer ${token}` };
  const r = body ? await context.request.post(`${server}${path}`, { headers, data: body }) : await context.request.get(`${server}${path}`, { headers });
  const out = await r.json();
  if (!r.ok()) throw new Error(`${path}: ${JSON.stringify(out)}`);
  await context.close();
  return out;
}

// comeIn uses a link, sets a password, and keeps the session for others.
export async function comeIn(link, way) {
  const page = await open(way);
  await page.goto(link);
  await page.locator('input[autocomplete=new-password]').first().waitFor();
  must(!page.url().includes('#'), 'the secret of a link stays in the address');
  await page.locator('input[autocomplete=new-password]').nth(0).fill(password);
  await page.locator('input[autocomplete=new-password]').nth(1).fill(password);
  return page;
}

// run goes through steps, tells how long each took, and ends with 1 if one of
// them failed.
export async function run(steps) {
  const only = process.env.TSUGI_LOOK?.split(','); // names of steps, for who works on one; the first is always taken
  try {
    for (const step of steps) {
      if (only && step !== steps[0] && !only.includes(step.name)) continue;
      const begun = Date.now();
      await step();
      console.log(`${step.name}: ${((Date.now() - begun) / 1000).toFixed(1)} s`);
    }
  } catch (e) {
    fail(e.stack ?? String(e));
    for (const c of shots ? browser.contexts() : []) for (const p of c.pages()) await p.screenshot({ path: `${shots}/failed.png` }).catch(() => {});
  }
  await browser.close();
  console.log(failures.length === 0 ? 'all looked at' : `${failures.length} failures`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}
