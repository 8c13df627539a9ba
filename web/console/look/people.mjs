// SPDX-License-Identifier: Apache-2.0

// People: how they come in, what they do with what is theirs, and what they
// are shown of what others may do.
import { createHmac } from 'node:crypto';
import { ask, comeIn, desk, doing, home, inside, inspect, must, open, password, phone, server, settle, token } from './kit.mjs';

export const sessions = {}; // owner: the first admin; eve: may only look; mia: operates the machines of one group

export async function login() {
  doing('link');
  const first = await comeIn(process.env.TSUGI_LINK, { viewport: phone, language: 'ja', scheme: 'dark' });
  await inspect(first, 'phone-ja-link', true);
  await first.getByRole('button', { name: 'ログイン' }).click();
  await inside(first);
  const owner = (sessions.owner = await first.context().storageState());
  must(owner.cookies.every((c) => c.httpOnly && c.secure && c.sameSite === 'Lax'), 'the cookie of the session can be read by scripts, or leaves TLS');
  must(await first.evaluate(() => sessionStorage.length === 0), 'something of the session is where scripts can read it');
  await first.context().close();
  doing('a link that was used');
  const again = await open({ viewport: desk, language: 'en' });
  await again.goto(process.env.TSUGI_LINK);
  await again.getByRole('alert').waitFor();
  await inspect(again, 'desk-en-link-used', true);
  await again.context().close();

  doing('others come in');
  const made = [];
  for (const body of [{ name: 'eve', grants: [{ role: 'viewer' }] }, { name: 'mia', display: 'Mia "><img src=x onerror=globalThis.hostile=1>', grants: [{ role: 'operator', groups: ['web'] }] }]) {
    const page = await comeIn((await ask('/v1/users', body)).link, { viewport: desk, language: 'en' });
    await page.getByRole('button', { name: 'Log in' }).click();
    await inside(page);
    made.push(await page.context().storageState());
    await page.context().close();
  }
  [sessions.eve, sessions.mia] = made;

  doing('login');
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
  doing('login with a key'); // in the same tab: nothing of who was there before is left
  await page.getByRole('button', { name: 'Use an API key instead' }).click();
  await page.getByLabel('API key', { exact: true }).fill(token);
  await page.keyboard.press('Enter');
  await inside(page);
  await page.getByRole('button', { name: 'Menu' }).click();
  await page.getByRole('link', { name: 'Tiers' }).click();
  await page.getByRole('button', { name: 'New tier' }).waitFor();
  await page.context().close();
}

// account is what somebody does with their own: a second factor and an API key.
export async function account() {
  const page = await open({ viewport: desk, language: 'en', state: sessions.eve });
  doing('an API key');
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

  doing('a second factor');
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

  doing('login with a second factor');
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

  doing('another session is ended');
  await page.reload();
  await settle(page);
  await page.getByRole('button', { name: /^End:/ }).first().click();
  await page.getByRole('dialog').getByRole('button', { name: 'End' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.context().close();
}

// totp is the code of an authenticator that has a secret.
export function totp(secret) {
  const bits = [...secret.replace(/[^A-Z2-7]/g, '')].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((b) => parseInt(b, 2)));
  const at = Buffer.alloc(8);
  at.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const h = createHmac('sha1', key).update(at).digest();
  return String((h.readUInt32BE(h[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

// reader sees everything and is offered nothing; who operates one group is
// offered what is of that group.
export async function reader() {
  doing('reader');
  const page = await open({ viewport: desk, language: 'en', state: sessions.eve });
  for (const [path, name] of [['/tokens', 'New token'], ['/tiers', 'New tier'], ['/policies', 'New policy'], ['/policies/databases', 'Exclude'], ['/jobs', 'Queue a build'], ['/keys', 'New key of a program'], ['/rollouts', 'New rollout']]) {
    await page.goto(home + path);
    await settle(page);
    must((await page.getByRole('button', { name, exact: true }).count()) === 0, `who may only read is shown ${name}`);
  }
  must((await page.getByRole('link', { name: 'People' }).count()) === 0, 'who may only read is shown the way to people');
  await page.context().close();

  doing('operator of one group');
  const scoped = await open({ viewport: desk, language: 'en', state: sessions.mia });
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
