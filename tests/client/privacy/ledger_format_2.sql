BEGIN TRANSACTION;
CREATE TABLE entries (
    sequence INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL,
    digest TEXT NOT NULL
);
INSERT INTO "entries" VALUES(1,'2026-11-25T23:05:34.120+00:00','opened','{"format": 2, "key_check": "25fedd57132db7273625970de8095f1b57abfb0082e5aa7feedb7f43aa4d59a3", "ledger": "264a5858798a403d95eb7d264efb2b87"}','0000000000000000000000000000000000000000000000000000000000000000','dc7a18501959279d5b113fce8c4f87f2b3a0153223d0d9ef5d943f24c3f8dab0');
INSERT INTO "entries" VALUES(2,'2026-11-25T23:05:34.174+00:00','cohort','{"cohort": "d0ba378da043becea019ebfbb52fcf2b8ff61de51139003b0a21dc9fbdd6dc58", "num_patients": 2}','dc7a18501959279d5b113fce8c4f87f2b3a0153223d0d9ef5d943f24c3f8dab0','0f6c5a90f1f81a9ede0d11db6a4e7539d7e281aa5860e3e8aa1d4c8b1c26fce7');
INSERT INTO "entries" VALUES(3,'2026-11-25T23:05:34.175+00:00','reserved','{"cohort": "d0ba378da043becea019ebfbb52fcf2b8ff61de51139003b0a21dc9fbdd6dc58", "delta": 0.0001, "max_grad_norm": 0.5, "mechanism": {"noise_multiplier": 2.0, "num_steps": 1, "sampling_rate": 1.0}, "noise": "secure", "num_patients_declared": 2, "purpose": "training", "request": "first", "run": "run", "server_round": 1, "target_epsilon": 8.0}','0f6c5a90f1f81a9ede0d11db6a4e7539d7e281aa5860e3e8aa1d4c8b1c26fce7','8df4d244a6d19c20a194f908f5a4295f69ceca82119495cad43087d3dd9a52df');
INSERT INTO "entries" VALUES(4,'2026-11-25T23:05:34.201+00:00','committed','{"reply": "6b15e6382c81dc574d1833f4401ddef539a9c3cbd750c5e65c3225c3ae7ebdd2", "reservation": 3}','8df4d244a6d19c20a194f908f5a4295f69ceca82119495cad43087d3dd9a52df','60859fc1e4eff5037d166496f3b3482bf86329f7ae51d6248cc1c99585ef7194');
INSERT INTO "entries" VALUES(5,'2026-11-25T23:05:34.218+00:00','cohort','{"cohort": "fe7670fdc1ceecf13c2329a5f772f1baba6743b4b99a87d6fed35c482e93bf81", "num_patients": 2}','60859fc1e4eff5037d166496f3b3482bf86329f7ae51d6248cc1c99585ef7194','e42982cdebe32179b57f11300881a9f5749f4d0c70f3ac69220729c4950d71d4');
INSERT INTO "entries" VALUES(6,'2026-11-25T23:05:34.218+00:00','reserved','{"cohort": "fe7670fdc1ceecf13c2329a5f772f1baba6743b4b99a87d6fed35c482e93bf81", "delta": 0.0001, "max_grad_norm": 0.5, "mechanism": {"noise_multiplier": 2.0, "num_steps": 1, "sampling_rate": 1.0}, "noise": "secure", "num_patients_declared": 2, "purpose": "training", "request": "crashed", "run": "run", "server_round": 1, "target_epsilon": 8.0}','e42982cdebe32179b57f11300881a9f5749f4d0c70f3ac69220729c4950d71d4','bfd0be108b304245e7440511ebb9036d60f78dcbddc4ee5729a3a51ddf0e436c');
INSERT INTO "entries" VALUES(7,'2026-11-25T23:05:34.251+00:00','forgotten','{"patient": "ce3c40b69a2dca57337acabadf302638"}','bfd0be108b304245e7440511ebb9036d60f78dcbddc4ee5729a3a51ddf0e436c','fd7191e432e23ab3e86bce4e5756b04c9d9aa394fcb0f655efd306360cae8319');
INSERT INTO "entries" VALUES(8,'2026-11-25T23:05:34.261+00:00','cohort','{"cohort": "0698f884586a267daf34907dcbdf8060b750436f56f0d31e9638f268869cfbbb", "num_patients": 1}','fd7191e432e23ab3e86bce4e5756b04c9d9aa394fcb0f655efd306360cae8319','18bf62df175ee9d504fe1f6acdb6f5da0a7a95bc4973267687584ff3b818290b');
INSERT INTO "entries" VALUES(9,'2026-11-25T23:05:34.261+00:00','unprotected','{"cohort": "0698f884586a267daf34907dcbdf8060b750436f56f0d31e9638f268869cfbbb", "num_patients_declared": 1, "purpose": "evaluation", "run": "run"}','18bf62df175ee9d504fe1f6acdb6f5da0a7a95bc4973267687584ff3b818290b','aa4ea5e1e8a91542e58cf86d15f5f7f7f5938c32d559950a3c4d9b04d42732be');
CREATE TABLE members (
    cohort TEXT NOT NULL, pseudonym BLOB NOT NULL, PRIMARY KEY (cohort, pseudonym)
) WITHOUT ROWID;
INSERT INTO "members" VALUES('0698f884586a267daf34907dcbdf8060b750436f56f0d31e9638f268869cfbbb',X'4CBBC480B27321DD153A5F8C676BC56D');
INSERT INTO "members" VALUES('d0ba378da043becea019ebfbb52fcf2b8ff61de51139003b0a21dc9fbdd6dc58',X'42C23E550E052B61F56D85F05DEC6E14');
INSERT INTO "members" VALUES('d0ba378da043becea019ebfbb52fcf2b8ff61de51139003b0a21dc9fbdd6dc58',X'4A437E85A52DE3C880413F3A761B3BE4');
INSERT INTO "members" VALUES('fe7670fdc1ceecf13c2329a5f772f1baba6743b4b99a87d6fed35c482e93bf81',X'4A437E85A52DE3C880413F3A761B3BE4');
INSERT INTO "members" VALUES('fe7670fdc1ceecf13c2329a5f772f1baba6743b4b99a87d6fed35c482e93bf81',X'CE3C40B69A2DCA57337ACABADF302638');
CREATE TABLE pending (reservation INTEGER PRIMARY KEY, noise_key BLOB NOT NULL);
INSERT INTO "pending" VALUES(6,X'AE3FEA79CCC1AF4AB5416AF5857353E8684AB51293F30D97C292F37917F74F3A');
CREATE TABLE replies (reservation INTEGER PRIMARY KEY, content BLOB NOT NULL);
INSERT INTO "replies" VALUES(3,X'006669727374207265706C79');
CREATE TABLE spellings (
    pseudonym BLOB NOT NULL, spelling BLOB NOT NULL, PRIMARY KEY (pseudonym, spelling)
) WITHOUT ROWID;
INSERT INTO "spellings" VALUES(X'42C23E550E052B61F56D85F05DEC6E14',X'552321FAEF5406E8303E605389A1EA93');
INSERT INTO "spellings" VALUES(X'4A437E85A52DE3C880413F3A761B3BE4',X'38A99C51C41235B9DE05F8832A7BEE12');
COMMIT;
