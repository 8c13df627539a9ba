// SPDX-License-Identifier: Apache-2.0
import { Alert, Button, type ButtonProps, Code, CopyButton, Group, Modal, Stack, Text, TextInput } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState, type ReactNode } from 'react';
import { whoami } from '../api/queries';
import { useT } from '../i18n';
import { proven } from './proof';
import { approved, Second, type Asked } from './second';
import { say } from './toast';

export type Permission =
  | 'look' | 'machines' | 'enroll' | 'policies' | 'build' | 'publish' | 'stop' | 'rollouts' | 'approve' | 'tiers' | 'people' | 'keys';

// useMay reports whether who is looking may do something: to the whole fleet,
// or to machines of a group. The server decides; this only keeps buttons away
// that would be refused.
export function useMay(p: Permission, group?: string): boolean {
  const groups = useQuery(whoami).data?.may[p];
  return groups !== undefined && groups !== null && (groups.length === 0 || (group !== undefined && groups.includes(group)));
}

// useMaySome reports whether they may do it to any machine at all.
export function useMaySome(p: Permission): boolean {
  return useQuery(whoami).data?.may[p] !== undefined;
}

interface DialogProps<R> {
  button: ReactNode;
  buttonProps?: ButtonProps & { 'aria-label'?: string };
  title: string;
  children?: ReactNode; // what will happen, and fields
  go: string; // what the button that does it says
  danger?: boolean;
  ready?: boolean; // fields are filled in
  act: (approval?: string) => Promise<R>;
  approval?: Asked; // what a second person is asked for, where one is needed
  done?: string; // said when it is done
  after?: (result: R) => unknown; // is waited for: the way to another page
  onOpen?: () => void;
  onClose?: () => void;
  size?: string;
}

// Dialog is a button that asks before it does something, and shows why it
// could not be done where it was asked for.
export function Dialog<R>(p: DialogProps<R>) {
  const t = useT();
  const [open, setOpen] = useState(false);
  const client = useQueryClient();
  const me = useQuery(whoami).data?.name;
  const m = useMutation({
    mutationFn: () => approved((id) => proven(() => p.act(id)), p.approval, me),
    onSuccess: async (result) => {
      close();
      if (p.done) say(p.done);
      await p.after?.(result); // first: what was removed is asked for no more
      await client.invalidateQueries();
      // Where the button went with what it was for, the focus would be nowhere.
      if (document.activeElement === document.body) document.querySelector<HTMLElement>('h1')?.focus({ preventScroll: true });
    },
  });
  const close = () => {
    setOpen(false);
    p.onClose?.();
  };
  // Closed in the middle, nobody would hear that it could not be done.
  const leave = () => {
    if (!m.isPending) close();
  };
  return (
    <>
      <Button
        size="sm"
        {...(p.danger ? { color: 'red', variant: 'light' } : { variant: 'default' })}
        {...p.buttonProps}
        onClick={() => {
          m.reset();
          p.onOpen?.();
          setOpen(true);
        }}
      >
        {p.button}
      </Button>
      <Modal
        opened={open}
        onClose={leave}
        closeOnEscape={!m.isPending}
        title={p.title}
        size={p.size ?? 'lg'}
        closeButtonProps={{ 'aria-label': t.close }}
      >
        <form
          onSubmit={(e) => {
            e.preventDefault();
            if (p.ready !== false && !m.isPending) m.mutate();
          }}
        >
          <Stack gap="md">
            {p.children}
            {m.isError && <Second error={m.error} wanted={p.approval} />}
            <Group justify="flex-end" gap="xs">
              <Button variant="default" disabled={m.isPending} onClick={leave}>
                {t.cancel}
              </Button>
              <Button type="submit" color={p.danger ? 'red' : 'pine'} loading={m.isPending} disabled={p.ready === false}>
                {p.go}
              </Button>
            </Group>
          </Stack>
        </form>
      </Modal>
    </>
  );
}

// Secret shows what is told once.
export function Secret({ title, text, help, onClose }: { title: string; text: string; help: string; onClose: () => void }) {
  const t = useT();
  return (
    <Modal opened={text !== ''} onClose={onClose} title={title} size="lg" closeOnClickOutside={false} closeButtonProps={{ 'aria-label': t.close }}>
      <Stack>
        <Alert color="yellow" variant="light">
          {help}
        </Alert>
        <Code block className="break secret">
          {text}
        </Code>
        <Group justify="flex-end">
          <CopyButton value={text}>
            {({ copied, copy }) => (
              <Button variant="default" onClick={copy}>
                {copied ? t.copied : t.copy}
              </Button>
            )}
          </CopyButton>
          <Button onClick={onClose}>{t.done}</Button>
        </Group>
      </Stack>
    </Modal>
  );
}

export const Help = ({ children }: { children: ReactNode }) => (
  <Text size="sm" c="dimmed" component="div">
    {children}
  </Text>
);

// NumberField is a field for whole numbers; '' while it is empty.
export function NumberField(p: { label: string; description?: string; min?: number; max?: number; value: number | ''; onChange: (n: number | '') => void }) {
  return (
    <TextInput
      type="number"
      inputMode="numeric"
      step={1}
      {...p}
      onChange={(e) => p.onChange(e.currentTarget.value === '' ? '' : Math.trunc(Number(e.currentTarget.value)))}
    />
  );
}
