// SPDX-License-Identifier: Apache-2.0
import { Fault, type Schemas } from './client';

type Begun = Schemas['PasskeyBegun'];
type Answer = Schemas['FinishPasskey'];

// canPasskey reports whether this browser can use passkeys as the server speaks of them.
export function canPasskey(): boolean {
  return typeof PublicKeyCredential !== 'undefined' && 'parseRequestOptionsFromJSON' in PublicKeyCredential;
}

// noPasskey is what stands in a Fault when the browser gave none: when somebody
// cancels it, and when there is none here, is one and the same to it.
export const noPasskey = 'NotAllowedError';

function refused(e: unknown): never {
  if (e instanceof Fault) throw e;
  if (e instanceof DOMException && e.name === noPasskey) throw new Fault(-1, { title: noPasskey });
  throw new Fault(-1, { title: e instanceof Error && e.message !== '' ? e.message : String(e) });
}

// withPasskey has the browser answer with a passkey that there is.
export async function withPasskey(begin: () => Promise<Begun>): Promise<Answer> {
  const begun = await begin();
  try {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.options as PublicKeyCredentialRequestOptionsJSON);
    const c = (await navigator.credentials.get({ publicKey })) as PublicKeyCredential | null;
    if (c === null) throw new Error('no passkey');
    return { ceremony: begun.ceremony, credential: c.toJSON() };
  } catch (e) {
    return refused(e);
  }
}

// makePasskey has the browser make one.
export async function makePasskey(begin: () => Promise<Begun>, name: string): Promise<Answer> {
  const begun = await begin();
  try {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(begun.options as PublicKeyCredentialCreationOptionsJSON);
    const c = (await navigator.credentials.create({ publicKey })) as PublicKeyCredential | null;
    if (c === null) throw new Error('no passkey');
    return { ceremony: begun.ceremony, name, credential: c.toJSON() };
  } catch (e) {
    return refused(e);
  }
}
