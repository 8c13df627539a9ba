// SPDX-License-Identifier: Apache-2.0

// What an operator does in a day.
import { readFileSync } from 'node:fs';
import { ask, desk, doing, expectRefusals, home, inspect, must, open, settle } from './kit.mjs';
import { sessions } from './people.mjs';

// live is what is told to a page that is open: somebody else's change is there
// before the page would have asked.
export async function live() {
  doing('a change is told');
  const page = await open({ viewport: desk, language: 'en', state: sessions.owner });
  await page.goto(`${home}/tokens`);
  await settle(page);
  await page.locator('.live[data-on]').first().waitFor();
  const name = `told-${Date.now() % 100_000}`;
  await ask('/v1/tokens', { name });
  const begun = Date.now();
  await page.getByText(name).waitFor({ timeout: 40_000 }); // by itself it asks each minute
  console.log(`told after ${Date.now() - begun} ms`);
  await page.context().close();
}

// story is what an operator does in a day, with the keyboard where a keyboard is wanted.
export async function story() {
  const page = await open({ viewport: desk, language: 'en', state: sessions.owner });
  doing('are we exposed');
  await page.goto(`${home}/`);
  await settle(page);
  await page.getByPlaceholder('CVE-2026-31431').fill('cve-2026-31431');
  await page.keyboard.press('Enter');
  await page.getByText(/protected by a live patch on [0-9,]+ machines?, open on/).waitFor();
  await inspect(page, 'desk-en-exposed', true);

  doing('search');
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

  doing('filter and pages');
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

  doing('exclude with a preview');
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

  doing('compare');
  await page.getByLabel('With policy').selectOption('default');
  await page.getByText(/Comes:/).first().waitFor();
  await inspect(page, 'desk-en-compare', true);

  doing('promote');
  await page.goto(`${home}/livepatches?tier=beta`);
  await settle(page);
  await page.getByRole('link', { name: /-v3$/ }).click();
  await page.getByRole('button', { name: 'Promote' }).click();
  await inspect(page, 'desk-en-promote', true);
  await page.getByRole('dialog').getByRole('button', { name: 'Promote' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByRole('status').getByText('promoted').waitFor();

  doing('token');
  await page.goto(`${home}/tokens`);
  await settle(page);
  await page.getByRole('button', { name: 'New token' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('laptops');
  await page.keyboard.press('Enter');
  await page.getByText(/tsugi enroll tsugi1\./).waitFor();
  await inspect(page, 'desk-en-token', true);
  await page.getByRole('button', { name: 'Done' }).click();

  doing('a change that the server refuses');
  await page.goto(`${home}/tiers`);
  await settle(page);
  await page.getByRole('button', { name: 'New tier' }).click();
  await page.getByRole('dialog').getByLabel('Tier').fill('stable');
  await page.getByRole('dialog').getByRole('button', { name: 'New tier' }).click();
  await page.getByRole('alert').waitFor();
  await inspect(page, 'desk-en-refused', true);

  doing('live log');
  await page.goto(`${home}/jobs?state=running`);
  await settle(page);
  await page.locator('tbody a').first().click();
  await page.getByRole('log').waitFor();
  await page.getByRole('button', { name: 'Cancel the build' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel the build' }).click();
  await page.locator('.facts').getByText('Being cancelled').waitFor(); // until its worker hears of it
  must(await page.getByRole('button', { name: 'Cancel the build' }).isDisabled(), 'a build that is being cancelled is offered to be cancelled');

  doing('cancel a build');
  const queued = await ask('/v1/jobs', { target: 'debian:6.1.0-55-amd64', name: 'mistake', fixes: [{ id: 'mistake', title: 'net: a mistake', diff: '--- a/net/x.c\n+++ b/net/x.c\n@@ -1 +1 @@\n-a\n+b\n' }] });
  await page.goto(`${home}/jobs/${queued.id}`);
  await settle(page);
  await page.getByRole('button', { name: 'Cancel the build' }).click();
  await inspect(page, 'desk-en-cancel');
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel the build' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.locator('.facts').getByText('Cancelled').first().waitFor();
  must((await page.getByRole('button', { name: 'Cancel the build' }).count()) === 0, 'a cancelled build is offered to be cancelled');
  must((await ask(`/v1/jobs/${queued.id}`)).state === 'cancelled', 'the build is not cancelled');

  doing('filter the audit log');
  await page.goto(`${home}/audit`);
  await settle(page);
  await page.getByLabel('Action', { exact: true }).fill('job');
  await page.waitForURL(/action=job\.\*/);
  await page.getByLabel('What', { exact: true }).fill(queued.id);
  await page.waitForURL(/object=/);
  await page.waitForFunction(() => !document.querySelector('[data-stale]') && document.querySelectorAll('tbody tr').length === 2); // made and cancelled
  await inspect(page, 'desk-en-audit-of');
  const entries = page.waitForEvent('download');
  await page.getByRole('button', { name: 'CSV' }).click();
  const log = readFileSync(await (await entries).path(), 'utf8').split('\r\n');
  must(log[0] === '\ufeffseq,time,actor,action,object,detail,id,hash' && log.length === 4 && log[1].includes('job.cancel'), `the CSV of the audit log has ${log.length} lines`);
  await page.getByRole('button', { name: 'Clear the filters' }).click();
  await page.waitForURL((u) => u.search === '');
  must((await page.getByLabel('Action', { exact: true }).inputValue()) === '', 'a filter that was cleared still shows');

  doing('filters below a page are in its address');
  const rollout = (await ask('/v1/rollouts')).items[0].id;
  const patch = (await ask('/v1/livepatches')).items[0].id;
  for (const [path, key, value] of [[`/rollouts/${rollout}`, 'status', 'failed'], [`/livepatches/${patch}`, 'kind', 'crash'], ['/notifications', 'stage', 'dead']]) {
    await page.goto(home + path);
    await settle(page);
    const choice = page.locator(`select:has(option[value="${value}"])`);
    await choice.scrollIntoViewIfNeeded();
    const at = await page.evaluate(() => window.scrollY);
    await choice.selectOption(value);
    await page.waitForURL((u) => u.search === `?${key}=${value}`);
    await settle(page);
    must(at === 0 || (await page.evaluate(() => window.scrollY)) > 0, `${path}: a filter scrolls to the top`);
    await page.reload();
    await settle(page);
    must((await choice.inputValue()) === value, `${path}: the filter is not of the address`);
  }

  doing('the server is away');
  await page.goto(`${home}/audit`);
  await settle(page);
  await page.getByText(/entries are what was written/).waitFor(); // or it asks again, and is told twice that nobody answers
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

export async function policy() {
  doing('policy of the page');
  const page = await open({ viewport: desk, language: 'en', state: sessions.owner });
  const r = await page.goto(`${home}/`);
  const csp = r.headers()['content-security-policy'] ?? '';
  must(csp.includes("script-src 'self';") && !csp.includes('unsafe'), `the policy is ${csp}`);
  await settle(page);
  expectRefusals(page);
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
  await page.context().close();
}
