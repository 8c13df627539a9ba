// SPDX-License-Identifier: Apache-2.0
import createClient from 'openapi-fetch';
import { backgroundHeader, unattended } from './attention';
import type { components, paths } from './schema';
import { session } from './session';

export type Schemas = components['schemas'];

export const api = createClient<paths>({ baseUrl: '', credentials: 'same-origin' });

// What says that who asks is signed in no more. Other answers with 401 are of
// a wrong password, or of a second factor that is wanted.
const over = new Set(['TS7603', 'TS8201']);
const epochs = new Map<string, number>();

api.use({
  onRequest({ request, id }) {
    epochs.set(id, session.epoch);
    if (session.credential !== '' && !request.headers.has('Authorization')) request.headers.set('Authorization', `Bearer ${session.credential}`);
    if (unattended()) request.headers.set(backgroundHeader, '1');
    return request;
  },
  async onResponse({ response, id }) {
    const mine = epochs.get(id) === session.epoch;
    epochs.delete(id);
    if (response.status !== 401 || !mine) return undefined;
    const e = (await response
      .clone()
      .json()
      .catch(() => ({}))) as { code?: string };
    if (over.has(e.code ?? '')) session.end(true);
    return undefined;
  },
  onError({ id }) {
    epochs.delete(id);
    return undefined;
  },
});

// Fault is what the server, or the way to it, answered instead of data.
export class Fault extends Error {
  readonly status: number; // 0: no answer came
  readonly code: string;
  readonly what: string;
  readonly why: string;
  readonly fix: string;
  readonly where: string;

  constructor(status: number, e: Partial<Schemas['Error']>) {
    super([e.title, e.detail].filter(Boolean).join(': '));
    this.name = 'Fault';
    this.status = status;
    this.code = e.code ?? '';
    this.what = e.title ?? '';
    this.why = e.detail ?? '';
    this.fix = e.fix ?? '';
    this.where = e.where ?? '';
  }
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

// ask turns an answer into its data, or throws a Fault.
export async function ask<T>(request: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await request;
  } catch (e) {
    if (e instanceof DOMException && e.name === 'AbortError') throw e;
    throw new Fault(0, { detail: e instanceof Error ? e.message : String(e) });
  }
  if (!answer.response.ok) {
    const e = answer.error;
    throw new Fault(answer.response.status, e !== null && typeof e === 'object' ? e : { title: answer.response.statusText });
  }
  return answer.data as T;
}
