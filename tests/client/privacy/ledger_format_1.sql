BEGIN TRANSACTION;
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL,
    digest TEXT NOT NULL
);
INSERT INTO "entries" VALUES(1,'2026-11-25T21:30:25.417+00:00','opened','{"format": 1, "key_check": "25fedd57132db7273625970de8095f1b57abfb0082e5aa7feedb7f43aa4d59a3", "ledger": "000102030405460788090a0b0c0d0e0f"}','0000000000000000000000000000000000000000000000000000000000000000','edbaaaabfec960096181967f6379cf854131eeafe8fe97b8d906fd36e2e438cf');
INSERT INTO "entries" VALUES(2,'2026-11-25T21:30:25.469+00:00','cohort','{"cohort": "ab8ee9432b6c8721316792ccf34ba03190f6399da62aefbf7ee520d04c3f1ed0", "num_patients": 2}','edbaaaabfec960096181967f6379cf854131eeafe8fe97b8d906fd36e2e438cf','70689b1d23006efdf1234038553afcbcf0282a368712ccf5db7e1adb5d88f1b5');
INSERT INTO "entries" VALUES(3,'2026-11-25T21:30:25.469+00:00','reserved','{"cohort": "ab8ee9432b6c8721316792ccf34ba03190f6399da62aefbf7ee520d04c3f1ed0", "delta": 0.0001, "max_grad_norm": 0.5, "mechanism": {"noise_multiplier": 2.431, "num_steps": 1, "sampling_rate": 1.0}, "noise": "secure", "num_patients_declared": 30, "purpose": "training", "request": "first", "run": "run", "server_round": 1, "target_epsilon": 8.0}','70689b1d23006efdf1234038553afcbcf0282a368712ccf5db7e1adb5d88f1b5','c046ff3e3c90a4693d727f754948a0d4cc2ba9f3bc184a3c0402d4c2e7c2811b');
INSERT INTO "entries" VALUES(4,'2026-11-25T21:30:25.497+00:00','committed','{"reply": "6b15e6382c81dc574d1833f4401ddef539a9c3cbd750c5e65c3225c3ae7ebdd2", "reservation": 3}','c046ff3e3c90a4693d727f754948a0d4cc2ba9f3bc184a3c0402d4c2e7c2811b','851c99a4a1f293bd0ae86e92db873ea0ced257f0ed7c59b5eedad5967f44dda7');
INSERT INTO "entries" VALUES(5,'2026-11-25T21:30:25.514+00:00','cohort','{"cohort": "535d77d30fb4e8a9c5cc042a404b031b37ca53319e34b23fcbaccc3600abd7ca", "num_patients": 2}','851c99a4a1f293bd0ae86e92db873ea0ced257f0ed7c59b5eedad5967f44dda7','02da68db8d3492fd3e75123c1022911d93d8983ad4ebdc485c216382ba74a9c0');
INSERT INTO "entries" VALUES(6,'2026-11-25T21:30:25.514+00:00','reserved','{"cohort": "535d77d30fb4e8a9c5cc042a404b031b37ca53319e34b23fcbaccc3600abd7ca", "delta": 0.0001, "max_grad_norm": 0.5, "mechanism": {"noise_multiplier": 2.431, "num_steps": 1, "sampling_rate": 1.0}, "noise": "secure", "num_patients_declared": 30, "purpose": "training", "request": "second", "run": "another", "server_round": 1, "target_epsilon": 8.0}','02da68db8d3492fd3e75123c1022911d93d8983ad4ebdc485c216382ba74a9c0','5e0d8ba9e3516d82c2a60e3d061937af2366d63fbd6c0b609783f8902e6cc3dc');
INSERT INTO "entries" VALUES(7,'2026-11-25T21:30:25.545+00:00','committed','{"reply": "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4", "reservation": 6}','5e0d8ba9e3516d82c2a60e3d061937af2366d63fbd6c0b609783f8902e6cc3dc','30889a531ca07efae4657333bd443125b48303cb99a9dcb6ddeaabde40e5b6fa');
INSERT INTO "entries" VALUES(8,'2026-11-25T21:30:25.569+00:00','cohort','{"cohort": "c3c5c72e3efb599469eb2b55a7c1fde4dcc4863ed8bb101bfc590ea59c5dfc8f", "num_patients": 1}','30889a531ca07efae4657333bd443125b48303cb99a9dcb6ddeaabde40e5b6fa','093b20f9bcb2d4a4b11d966a1822a7f0dd9e110149c85ee01edf83c341ac17d2');
INSERT INTO "entries" VALUES(9,'2026-11-25T21:30:25.569+00:00','unprotected','{"cohort": "c3c5c72e3efb599469eb2b55a7c1fde4dcc4863ed8bb101bfc590ea59c5dfc8f", "num_patients_declared": 1, "purpose": "evaluation", "run": "run"}','093b20f9bcb2d4a4b11d966a1822a7f0dd9e110149c85ee01edf83c341ac17d2','25aefb4c6a8a9ba0264b4addc3917e4953c360ae3eebaab49bd0f52e5b967763');
INSERT INTO "entries" VALUES(10,'2026-11-25T21:30:25.602+00:00','reserved','{"cohort": "ab8ee9432b6c8721316792ccf34ba03190f6399da62aefbf7ee520d04c3f1ed0", "delta": 0.0001, "max_grad_norm": 0.5, "mechanism": {"noise_multiplier": 2.431, "num_steps": 1, "sampling_rate": 1.0}, "noise": "secure", "num_patients_declared": 30, "purpose": "training", "request": "crashed", "run": "run", "server_round": 1, "target_epsilon": 8.0}','25aefb4c6a8a9ba0264b4addc3917e4953c360ae3eebaab49bd0f52e5b967763','31ee670b86f9f2b957b2cd9bc8d01d1af51eca3cafdfc3e5ce2814db3505d585');
CREATE TABLE members (
    cohort TEXT NOT NULL, pseudonym BLOB NOT NULL, PRIMARY KEY (cohort, pseudonym)
) WITHOUT ROWID;
INSERT INTO "members" VALUES('535d77d30fb4e8a9c5cc042a404b031b37ca53319e34b23fcbaccc3600abd7ca',X'7C9A635486968C1A8B0E9BB9BD4F6E86');
INSERT INTO "members" VALUES('535d77d30fb4e8a9c5cc042a404b031b37ca53319e34b23fcbaccc3600abd7ca',X'9085080582BC69AA2E6F1012BFDD7280');
INSERT INTO "members" VALUES('ab8ee9432b6c8721316792ccf34ba03190f6399da62aefbf7ee520d04c3f1ed0',X'7C9A635486968C1A8B0E9BB9BD4F6E86');
INSERT INTO "members" VALUES('ab8ee9432b6c8721316792ccf34ba03190f6399da62aefbf7ee520d04c3f1ed0',X'E1E3BFB8B1D825F216B4F4E094AA99FB');
INSERT INTO "members" VALUES('c3c5c72e3efb599469eb2b55a7c1fde4dcc4863ed8bb101bfc590ea59c5dfc8f',X'3A72C3DE3BA1D7C6BCF63E994BBEB0BB');
CREATE TABLE replies (reservation INTEGER PRIMARY KEY, content BLOB NOT NULL);
INSERT INTO "replies" VALUES(3,X'006669727374207265706C79');
INSERT INTO "replies" VALUES(6,X'7365636F6E64');
COMMIT;
