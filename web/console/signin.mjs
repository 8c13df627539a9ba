// SPDX-License-Identifier: Apache-2.0

// The ways to come in that need a browser: a passkey, with an authenticator
// that the browser plays (CDP WebAuthn), and an OpenID provider, which
// test/console runs. That the server asks for a proof again once the last one is
// too old is waited for.
//
//   TSUGI_TOKEN=tso_… TSUGI_PROVIDER=http://… node signin.mjs https://localhost:8443 [DIRECTORY-FOR-PICTURES]
import { ask, comeIn, desk, doing, home, inside, inspect, must, open, phone, run, server, settle } from './look/kit.mjs';

const provider = process.env.TSUGI_PROVIDER;
const fresh = Number(process.env.TSUGI_FRESH) * 1000; // how long a proof lasts

async function authenticator(page) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('WebAuthn.enable');
  const { authenticatorId } = await cdp.send('WebAuthn.addVirtualAuthenticator', {
    options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  });
  return {
    count: async () => (await cdp.send('WebAuthn.getCredentials', { authenticatorId })).credentials.length,
    refuse: (yes) => cdp.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified: !yes }),
  };
}

async function passkey() {
  doing('a passkey is made');
  const page = await comeIn((await ask('/v1/users', { name: 'kei', grants: [{ role: 'viewer' }] })).link, { viewport: desk, language: 'en' });
  const key = await authenticator(page);
  await page.getByRole('button', { name: 'Log in' }).click();
  await inside(page);
  await page.goto(`${home}/account`);
  await settle(page);
  const add = async (name) => {
    await page.getByRole('button', { name: 'Add a passkey' }).click();
    await page.getByRole('dialog').getByLabel('Name').fill(name);
    await page.getByRole('dialog').getByRole('button', { name: 'Add a passkey' }).click();
  };
  await add('laptop');
  await page.getByRole('cell', { name: 'laptop', exact: true }).waitFor();
  must((await key.count()) === 1, 'the authenticator has no passkey');
  await inspect(page, 'desk-en-passkey');

  doing('login with a passkey');
  await page.getByRole('button', { name: 'Log out' }).first().click();
  await page.getByRole('button', { name: 'Use a passkey' }).waitFor();
  await inspect(page, 'desk-en-login-passkey');
  await page.getByRole('button', { name: 'Use a passkey' }).click();
  await inside(page);
  const came = Date.now();
  must((await (await page.request.get(`${server}/v1/account`)).json()).session.method === 'passkey', 'the session is not by the passkey');
  return { page, key, came };
}

async function proof({ page, key, came }) {
  doing('a proof by the passkey');
  await page.goto(`${home}/account`);
  await settle(page);
  await page.waitForTimeout(Math.max(0, came + fresh + 500 - Date.now()));
  await page.getByRole('button', { name: 'New key' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('scripts');
  await page.getByRole('dialog').getByLabel('see how things stand').check();
  await page.getByRole('dialog').getByRole('button', { name: 'New key' }).click();
  const asked = page.getByRole('dialog').filter({ has: page.getByRole('button', { name: 'Use a passkey' }) });
  await asked.waitFor();
  await inspect(page, 'desk-en-proof');
  await key.refuse(true); // a finger that is not theirs
  await asked.getByRole('button', { name: 'Use a passkey' }).click();
  await asked.getByRole('alert').waitFor();
  await key.refuse(false);
  await asked.getByRole('button', { name: 'Use a passkey' }).click();
  await page.getByText(/^tso_/).waitFor();
  await page.getByRole('button', { name: 'Done' }).click();

  doing('language and colours go with the account');
  await page.getByLabel('Language').selectOption('ja');
  await page.getByLabel('配色').selectOption('dark');
  await page.waitForFunction(async () => {
    const kept = (await (await fetch('/v1/account')).json()).settings;
    return kept.language === 'ja' && kept.theme === 'dark';
  });
  const other = await open({ viewport: phone, language: 'en', state: { cookies: await page.context().cookies(), origins: [] } });
  await other.goto(`${home}/`);
  await other.locator('html[lang=ja][data-mantine-color-scheme=dark]').waitFor({ state: 'attached' });
  await other.context().close();
  await page.context().close();
}

async function elsewhere() {
  doing('login at a provider');
  const page = await open({ viewport: phone, language: 'en', elsewhere: [provider] });
  await page.goto(`${home}/machines?tier=edge`);
  await page.getByRole('link', { name: 'Continue with The Provider' }).click();
  await page.getByRole('heading', { name: 'The provider' }).waitFor();
  must(page.url().startsWith(provider), `the browser is sent to ${page.url()}`);
  await page.getByRole('link', { name: 'Go on' }).click();
  await inside(page);
  must(page.url() === `${home}/machines?tier=edge`, `after the login the page is ${page.url()}`);
  const account = await (await page.request.get(`${server}/v1/account`)).json();
  must(account.session.method === 'oidc:oidc' && account.display === '田中 倫' && account.identities.length === 1, `came in as ${JSON.stringify(account)}`);
  must(account.grants.map((g) => g.role).join() === 'operator', 'the role is not that of the claim');
  await page.goto(`${home}/account`);
  await settle(page);
  await inspect(page, 'phone-en-account-oidc');

  doing('an answer of a provider that another browser asked for');
  const stranger = await open({ viewport: phone, language: 'en', elsewhere: [provider] });
  await stranger.goto(`${server}/v1/sign-in/oidc/oidc?return_to=/console/`);
  const back = await stranger.getByRole('link', { name: 'Go on' }).getAttribute('href');
  const victim = await open({ viewport: phone, language: 'en', elsewhere: [provider] });
  await victim.goto(back);
  await victim.getByRole('alert').waitFor();
  await inspect(victim, 'phone-en-oidc-refused');
  must((await victim.context().cookies()).every((c) => c.name !== '__Host-tsugi'), 'another browser is signed in by it');

  doing('somebody whom the provider gives no role');
  await stranger.goto(`${provider}/be?groups=everybody`);
  await stranger.goto(`${home}/`);
  await stranger.getByRole('link', { name: 'Continue with The Provider' }).click();
  await stranger.getByRole('link', { name: 'Go on' }).click();
  await stranger.getByRole('alert').waitFor();
  await inspect(stranger, 'phone-en-oidc-no-role');
  for (const p of [page, stranger, victim]) await p.context().close();
}

let kei;
await run([
  async function passkeys() {
    kei = await passkey();
  },
  elsewhere,
  async function proofs() {
    await proof(kei);
  },
]);
