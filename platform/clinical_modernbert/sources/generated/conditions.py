"""What generated notes and abstracts are about: conditions whose symptoms, drugs, doses and laboratory values agree.

Textbook associations in our own words, good enough for a language model to learn something from; no medical advice, no person.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lab:
    """A laboratory value that a condition shifts; bounds of the range to draw from."""

    name: str
    low: float
    high: float
    unit: str
    decimals: int = 1


@dataclass(frozen=True, slots=True)
class Condition:
    """One diagnosis and what goes with it."""

    name: str
    service: str
    complaints: tuple[str, ...]
    symptoms: tuple[str, ...]
    findings: tuple[str, ...]
    labs: tuple[Lab, ...]
    study: str
    """Imaging or other study with its result."""
    home_drugs: tuple[str, ...]
    """Drug, dose, route and frequency as on a medication list."""
    treatment: tuple[str, ...]
    """What the hospital course did; sentences without subject change."""
    new_drugs: tuple[str, ...]
    follow_up: str
    history_name: str | None = None
    """Its name in a past medical history; None for what passes."""


NORMAL_LABS = (
    Lab("WBC", 4.5, 10.5, "K/uL"),
    Lab("Hgb", 12.0, 16.0, "g/dL"),
    Lab("Plt Ct", 160, 380, "K/uL", 0),
    Lab("Glucose", 80, 120, "mg/dL", 0),
    Lab("UreaN", 8, 20, "mg/dL", 0),
    Lab("Creat", 0.6, 1.1, "mg/dL"),
    Lab("Na", 136, 144, "mEq/L", 0),
    Lab("K", 3.6, 4.8, "mEq/L"),
    Lab("Cl", 97, 106, "mEq/L", 0),
    Lab("HCO3", 22, 29, "mEq/L", 0),
)

CONDITIONS = (
    Condition(
        "acute on chronic systolic heart failure",
        "CARDIOLOGY",
        ("Shortness of breath", "Leg swelling", "Dyspnea on exertion"),
        ("progressive dyspnea on exertion", "orthopnea", "bilateral leg swelling", "weight gain of several pounds"),
        ("elevated jugular venous pressure", "bibasilar crackles", "2+ pitting edema to the knees"),
        (Lab("proBNP", 2500, 14000, "pg/mL", 0), Lab("Creat", 1.2, 2.1, "mg/dL"), Lab("Na", 128, 135, "mEq/L", 0)),
        "Echocardiogram: left ventricular ejection fraction of 25-30 % with global hypokinesis and mitral regurgitation.",
        ("Furosemide 40 mg PO DAILY", "Lisinopril 10 mg PO DAILY", "Metoprolol Succinate XL 50 mg PO DAILY"),
        (
            "diuresed with intravenous furosemide",
            "kept on a low sodium diet with daily weights",
            "restarted on lisinopril",
        ),
        ("Torsemide 20 mg PO BID", "Spironolactone 25 mg PO DAILY"),
        "Weigh yourself every morning and call your cardiologist if your weight goes up by more than 3 pounds.",
        history_name="systolic heart failure",
    ),
    Condition(
        "non-ST elevation myocardial infarction",
        "CARDIOLOGY",
        ("Chest pain", "Chest pressure"),
        ("substernal chest pressure radiating to the left arm", "diaphoresis", "nausea"),
        ("regular rate and rhythm without murmurs", "clear lungs"),
        (Lab("cTropnT", 0.12, 1.9, "ng/mL", 2), Lab("CK-MB", 12, 80, "ng/mL", 0), Lab("Cholest", 190, 280, "mg/dL", 0)),
        "Coronary angiography: 90 % stenosis of the left anterior descending artery, treated with one drug-eluting stent.",
        ("Aspirin 81 mg PO DAILY", "Simvastatin 20 mg PO QPM"),
        (
            "started on a heparin infusion",
            "loaded with aspirin and clopidogrel",
            "taken to the catheterization laboratory",
        ),
        ("Clopidogrel 75 mg PO DAILY", "Atorvastatin 80 mg PO QPM", "Metoprolol Tartrate 25 mg PO BID"),
        "Do not stop aspirin or clopidogrel without talking to your cardiologist.",
    ),
    Condition(
        "atrial fibrillation with rapid ventricular response",
        "CARDIOLOGY",
        ("Palpitations", "Lightheadedness"),
        ("palpitations", "lightheadedness", "reduced exercise tolerance"),
        ("irregularly irregular rhythm at a rate of 130", "no edema"),
        (Lab("TSH", 0.5, 4.0, "uIU/mL"), Lab("Mg", 1.4, 1.8, "mg/dL"), Lab("INR", 1.0, 1.4, "")),
        "ECG: atrial fibrillation with a ventricular rate of 134, no ischemic changes.",
        ("Metoprolol Tartrate 25 mg PO BID", "Warfarin 5 mg PO DAILY"),
        ("given intravenous diltiazem with good rate control", "anticoagulated", "monitored on telemetry"),
        ("Diltiazem Extended-Release 120 mg PO DAILY", "Apixaban 5 mg PO BID"),
        "You have started a blood thinner; call your doctor for any bleeding or a fall.",
        history_name="atrial fibrillation",
    ),
    Condition(
        "community-acquired pneumonia",
        "MEDICINE",
        ("Cough and fever", "Shortness of breath", "Fever"),
        ("productive cough", "fevers and chills", "pleuritic chest pain"),
        ("rhonchi and egophony over the right base", "increased work of breathing"),
        (Lab("WBC", 13, 22, "K/uL"), Lab("Neuts", 82, 94, "%", 0), Lab("Lactate", 1.8, 3.4, "mmol/L")),
        "Chest x-ray: right lower lobe consolidation consistent with pneumonia. No pleural effusion.",
        ("Albuterol Inhaler 2 PUFF IH Q6H:PRN wheezing",),
        (
            "treated with ceftriaxone and azithromycin",
            "weaned from supplemental oxygen",
            "transitioned to oral antibiotics",
        ),
        ("Levofloxacin 750 mg PO DAILY", "Guaifenesin 600 mg PO BID"),
        "Finish the full course of antibiotics and have a repeat chest x-ray in six weeks.",
    ),
    Condition(
        "chronic obstructive pulmonary disease exacerbation",
        "MEDICINE",
        ("Shortness of breath", "Wheezing"),
        ("worsening dyspnea", "wheezing", "increased sputum production"),
        ("diffuse expiratory wheezes", "prolonged expiratory phase", "use of accessory muscles"),
        (Lab("pCO2", 48, 68, "mm Hg", 0), Lab("pO2", 54, 70, "mm Hg", 0), Lab("HCO3", 28, 36, "mEq/L", 0)),
        "Chest x-ray: hyperinflated lungs with flattened diaphragms, no focal consolidation.",
        ("Tiotropium Bromide 1 CAP IH DAILY", "Fluticasone-Salmeterol 250/50 1 INH IH BID"),
        ("given nebulized albuterol and ipratropium", "started on methylprednisolone", "treated with azithromycin"),
        ("Prednisone 40 mg PO DAILY", "Azithromycin 250 mg PO DAILY"),
        "Take the prednisone taper as written and do not smoke.",
        history_name="chronic obstructive pulmonary disease",
    ),
    Condition(
        "pulmonary embolism",
        "MEDICINE",
        ("Shortness of breath", "Pleuritic chest pain"),
        ("sudden dyspnea", "pleuritic chest pain", "calf swelling after a long trip"),
        ("tachycardia", "clear lungs", "tender left calf with swelling"),
        (
            Lab("D-Dimer", 1200, 5200, "ng/mL", 0),
            Lab("cTropnT", 0.02, 0.09, "ng/mL", 2),
            Lab("pO2", 58, 74, "mm Hg", 0),
        ),
        "CT angiogram of the chest: segmental pulmonary emboli in the right lower lobe without right heart strain.",
        (),
        (
            "started on a heparin infusion",
            "transitioned to oral anticoagulation",
            "evaluated with lower extremity ultrasound",
        ),
        ("Rivaroxaban 15 mg PO BID", "Acetaminophen 650 mg PO Q6H:PRN pain"),
        "Take the blood thinner with food for at least three months.",
    ),
    Condition(
        "urinary tract infection",
        "MEDICINE",
        ("Dysuria", "Confusion", "Fever"),
        ("dysuria", "urinary frequency", "suprapubic discomfort"),
        ("mild suprapubic tenderness", "no costovertebral angle tenderness"),
        (Lab("WBC", 11, 17, "K/uL"), Lab("UA WBC", 40, 180, "#/hpf", 0), Lab("Lactate", 1.0, 2.4, "mmol/L")),
        "Urine culture: Escherichia coli, sensitive to ceftriaxone and nitrofurantoin.",
        ("Tamsulosin 0.4 mg PO QHS",),
        ("treated with ceftriaxone", "given intravenous fluids", "narrowed to oral therapy by culture data"),
        ("Nitrofurantoin 100 mg PO BID", "Cefpodoxime 200 mg PO BID"),
        "Drink plenty of fluids and finish the antibiotics.",
    ),
    Condition(
        "septic shock due to pyelonephritis",
        "MEDICINE",
        ("Fever", "Flank pain", "Hypotension"),
        ("flank pain", "rigors", "vomiting"),
        ("hypotension to 82/44", "costovertebral angle tenderness", "warm extremities"),
        (Lab("Lactate", 3.8, 8.2, "mmol/L"), Lab("WBC", 18, 31, "K/uL"), Lab("Creat", 1.6, 3.2, "mg/dL")),
        "CT of the abdomen: enlarged right kidney with perinephric stranding, no hydronephrosis.",
        (),
        ("resuscitated with crystalloid and norepinephrine", "treated with cefepime", "weaned off vasopressors"),
        ("Ciprofloxacin 500 mg PO BID",),
        "Return for fever, chills or worsening flank pain.",
    ),
    Condition(
        "diabetic ketoacidosis",
        "MEDICINE",
        ("Nausea and vomiting", "Hyperglycemia", "Abdominal pain"),
        ("polyuria and polydipsia", "vomiting", "missed doses of insulin"),
        ("dry mucous membranes", "Kussmaul breathing", "diffuse mild abdominal tenderness"),
        (Lab("Glucose", 420, 690, "mg/dL", 0), Lab("HCO3", 7, 15, "mEq/L", 0), Lab("AnGap", 20, 32, "mEq/L", 0)),
        "Venous blood gas: pH 7.14 with an anion gap metabolic acidosis.",
        ("Insulin Glargine 20 units SC QHS", "Insulin Lispro sliding scale SC QACHS"),
        (
            "given intravenous fluids and an insulin infusion",
            "repleted with potassium",
            "bridged to subcutaneous insulin",
        ),
        ("Insulin Glargine 28 units SC QHS", "Insulin Lispro 6 units SC TID with meals"),
        "Check your blood sugar four times a day and never skip your long-acting insulin.",
    ),
    Condition(
        "type 2 diabetes mellitus",
        "MEDICINE",
        ("Hyperglycemia", "Fatigue"),
        ("fatigue", "blurry vision", "polyuria"),
        ("decreased sensation to monofilament in both feet", "no ulcers"),
        (Lab("%HbA1c", 8.1, 12.4, "%"), Lab("Glucose", 210, 380, "mg/dL", 0), Lab("Triglyc", 180, 340, "mg/dL", 0)),
        "Urine albumin to creatinine ratio: 62 mg/g.",
        ("Metformin 1000 mg PO BID", "Lisinopril 5 mg PO DAILY"),
        ("started on basal insulin", "counseled by nutrition", "continued on metformin"),
        ("Insulin Glargine 12 units SC QHS", "Empagliflozin 10 mg PO DAILY"),
        "Keep a log of your blood sugars and bring it to your next visit.",
        history_name="type 2 diabetes mellitus",
    ),
    Condition(
        "acute kidney injury",
        "MEDICINE",
        ("Decreased urine output", "Weakness"),
        ("poor oral intake", "decreased urine output", "lightheadedness on standing"),
        ("dry mucous membranes", "orthostatic blood pressure drop", "no edema"),
        (Lab("Creat", 2.2, 5.4, "mg/dL"), Lab("UreaN", 42, 96, "mg/dL", 0), Lab("K", 5.1, 6.2, "mEq/L")),
        "Renal ultrasound: normal sized kidneys without hydronephrosis.",
        ("Hydrochlorothiazide 25 mg PO DAILY", "Ibuprofen 600 mg PO TID"),
        ("given isotonic fluids", "taken off ibuprofen and hydrochlorothiazide", "followed by nephrology"),
        ("Amlodipine 5 mg PO DAILY",),
        "Avoid ibuprofen and similar drugs, and have your creatinine checked within one week.",
    ),
    Condition(
        "upper gastrointestinal bleeding from a duodenal ulcer",
        "MEDICINE",
        ("Melena", "Hematemesis"),
        ("black tarry stools", "epigastric pain", "use of naproxen for back pain"),
        ("pale conjunctivae", "epigastric tenderness", "guaiac positive stool"),
        (Lab("Hgb", 6.1, 8.9, "g/dL"), Lab("UreaN", 32, 58, "mg/dL", 0), Lab("INR", 1.0, 1.3, "")),
        "Upper endoscopy: 1 cm duodenal ulcer with a visible vessel, treated with epinephrine and clips.",
        ("Naproxen 500 mg PO BID",),
        ("transfused two units of packed red blood cells", "started on a pantoprazole infusion", "taken to endoscopy"),
        ("Pantoprazole 40 mg PO BID", "Ferrous Sulfate 325 mg PO DAILY"),
        "Do not take naproxen, and return at once for black stools.",
    ),
    Condition(
        "acute pancreatitis",
        "SURGERY",
        ("Abdominal pain",),
        ("epigastric pain radiating to the back", "nausea", "vomiting after a fatty meal"),
        ("epigastric tenderness without rebound", "decreased bowel sounds"),
        (Lab("Lipase", 640, 4200, "IU/L", 0), Lab("ALT", 64, 240, "IU/L", 0), Lab("WBC", 11, 18, "K/uL")),
        "Abdominal ultrasound: cholelithiasis without ductal dilatation.",
        ("Omeprazole 20 mg PO DAILY",),
        (
            "kept without food and given lactated Ringer's",
            "treated with hydromorphone for pain",
            "advanced to a low fat diet",
        ),
        ("Oxycodone 5 mg PO Q6H:PRN pain", "Ondansetron 4 mg PO Q8H:PRN nausea"),
        "Eat a low fat diet and see the surgeons about removal of your gallbladder.",
    ),
    Condition(
        "acute appendicitis",
        "SURGERY",
        ("Right lower quadrant pain", "Abdominal pain"),
        ("periumbilical pain that moved to the right lower quadrant", "anorexia", "nausea"),
        ("tenderness at McBurney's point", "positive Rovsing's sign"),
        (Lab("WBC", 12, 19, "K/uL"), Lab("CRP", 22, 140, "mg/L", 0), Lab("Neuts", 80, 92, "%", 0)),
        "CT of the abdomen: dilated appendix of 12 mm with surrounding fat stranding, no abscess.",
        (),
        (
            "taken to the operating room for laparoscopic appendectomy",
            "given cefazolin and metronidazole",
            "advanced in diet",
        ),
        ("Acetaminophen 1000 mg PO Q8H", "Docusate Sodium 100 mg PO BID"),
        "Do not lift more than 10 pounds for four weeks.",
    ),
    Condition(
        "alcoholic cirrhosis with ascites",
        "MEDICINE",
        ("Abdominal distension", "Jaundice"),
        ("increasing abdominal girth", "early satiety", "leg swelling"),
        ("scleral icterus", "distended abdomen with shifting dullness", "spider angiomata"),
        (Lab("TotBili", 2.8, 9.6, "mg/dL"), Lab("INR", 1.5, 2.4, ""), Lab("Albumin", 2.1, 2.9, "g/dL")),
        "Diagnostic paracentesis: 180 white cells, no evidence of spontaneous bacterial peritonitis.",
        ("Spironolactone 100 mg PO DAILY", "Lactulose 30 mL PO TID"),
        ("treated with large volume paracentesis and albumin", "continued on lactulose", "seen by hepatology"),
        ("Furosemide 40 mg PO DAILY", "Rifaximin 550 mg PO BID"),
        "Do not drink alcohol, and keep to less than 2 grams of sodium a day.",
        history_name="alcoholic cirrhosis",
    ),
    Condition(
        "acute ischemic stroke",
        "NEUROLOGY",
        ("Right-sided weakness", "Slurred speech", "Facial droop"),
        ("sudden right arm weakness", "slurred speech", "facial droop noticed by family"),
        ("right facial droop", "right pronator drift", "mild dysarthria"),
        (Lab("Cholest", 180, 260, "mg/dL", 0), Lab("%HbA1c", 5.6, 8.2, "%"), Lab("Glucose", 110, 190, "mg/dL", 0)),
        "MRI of the brain: restricted diffusion in the left middle cerebral artery territory without hemorrhage.",
        ("Amlodipine 5 mg PO DAILY",),
        (
            "outside the window for thrombolysis and given aspirin",
            "monitored on telemetry",
            "evaluated by physical therapy",
        ),
        ("Aspirin 81 mg PO DAILY", "Atorvastatin 80 mg PO QPM"),
        "Call 911 for any new weakness, numbness or trouble speaking.",
    ),
    Condition(
        "seizure disorder",
        "NEUROLOGY",
        ("Seizure",),
        ("a witnessed generalized tonic-clonic seizure", "tongue biting", "post-ictal confusion"),
        ("tongue laceration", "non-focal neurological examination"),
        (Lab("Lactate", 2.4, 6.8, "mmol/L"), Lab("CK", 320, 1900, "IU/L", 0), Lab("Phenytoin", 2.1, 7.8, "ug/mL")),
        "EEG: left temporal epileptiform discharges without electrographic seizures.",
        ("Phenytoin 100 mg PO TID",),
        ("given lorazepam and loaded with levetiracetam", "monitored with EEG", "seen by neurology"),
        ("Levetiracetam 750 mg PO BID",),
        "You may not drive until a neurologist clears you.",
        history_name="seizure disorder",
    ),
    Condition(
        "left hip fracture",
        "ORTHOPAEDICS",
        ("Hip pain", "Fall"),
        ("left hip pain after a mechanical fall", "inability to bear weight"),
        ("shortened and externally rotated left leg", "intact distal pulses"),
        (Lab("Hgb", 8.4, 11.4, "g/dL"), Lab("Vit D", 9, 21, "ng/mL", 0), Lab("INR", 1.0, 1.3, "")),
        "X-ray of the left hip: displaced femoral neck fracture.",
        ("Alendronate Sodium 70 mg PO QSUN", "Calcium Carbonate 500 mg PO TID"),
        (
            "taken to the operating room for hemiarthroplasty",
            "given enoxaparin for prophylaxis",
            "mobilized with therapy",
        ),
        ("Enoxaparin Sodium 40 mg SC DAILY", "Oxycodone 5 mg PO Q4H:PRN pain"),
        "Bear weight as tolerated and keep your posterior hip precautions.",
    ),
    Condition(
        "cellulitis of the right leg",
        "MEDICINE",
        ("Leg redness", "Leg pain"),
        ("spreading redness of the right leg", "warmth and pain", "low grade fever"),
        ("erythema and warmth of the right shin with clear borders", "no crepitus"),
        (Lab("WBC", 11, 18, "K/uL"), Lab("CRP", 30, 160, "mg/L", 0), Lab("Glucose", 130, 220, "mg/dL", 0)),
        "Ultrasound of the right leg: no deep venous thrombosis.",
        ("Metformin 500 mg PO BID",),
        ("treated with vancomycin", "kept with the leg elevated", "transitioned to oral cephalexin"),
        ("Cephalexin 500 mg PO Q6H",),
        "Keep your leg elevated and watch for redness beyond the marked line.",
    ),
    Condition(
        "hypertension",
        "MEDICINE",
        ("Headache", "Elevated blood pressure"),
        ("headache", "blurry vision", "missed doses of antihypertensives"),
        ("blood pressure of 212/118", "no papilledema", "fourth heart sound"),
        (Lab("Creat", 1.1, 1.6, "mg/dL"), Lab("K", 3.3, 3.9, "mEq/L"), Lab("cTropnT", 0.01, 0.03, "ng/mL", 2)),
        "CT of the head: no acute intracranial hemorrhage.",
        ("Lisinopril 20 mg PO DAILY", "Amlodipine 10 mg PO DAILY"),
        ("given intravenous labetalol", "restarted on lisinopril and amlodipine", "observed for end organ damage"),
        ("Chlorthalidone 25 mg PO DAILY",),
        "Take your blood pressure medications every day and keep a log of the readings.",
        history_name="hypertension",
    ),
    Condition(
        "major depressive disorder",
        "PSYCHIATRY",
        ("Low mood", "Suicidal ideation"),
        ("low mood", "poor sleep", "loss of interest over several weeks"),
        ("flat affect", "linear thought process", "no hallucinations"),
        (Lab("TSH", 0.8, 3.8, "uIU/mL"), Lab("VitB12", 280, 640, "pg/mL", 0), Lab("Glucose", 82, 110, "mg/dL", 0)),
        "Toxicology screen: negative.",
        ("Sertraline 50 mg PO DAILY", "Trazodone 50 mg PO QHS:PRN insomnia"),
        ("evaluated by psychiatry", "uptitrated on sertraline", "engaged in group therapy"),
        ("Sertraline 100 mg PO DAILY",),
        "Call the crisis line or 911 if thoughts of hurting yourself come back.",
        history_name="major depressive disorder",
    ),
    Condition(
        "metastatic colon adenocarcinoma",
        "ONCOLOGY",
        ("Abdominal pain", "Weight loss"),
        ("weight loss", "change in bowel habits", "fatigue"),
        ("palpable liver edge", "no ascites", "cachexia"),
        (Lab("CEA", 24, 310, "ng/mL", 0), Lab("Hgb", 7.8, 10.6, "g/dL"), Lab("AlkPhos", 160, 520, "IU/L", 0)),
        "CT of the abdomen: several hypodense liver lesions consistent with metastases and a mass of the sigmoid colon.",
        ("Ondansetron 8 mg PO Q8H:PRN nausea", "Morphine SR 15 mg PO Q12H"),
        ("seen by oncology and palliative care", "transfused one unit of red blood cells", "given FOLFOX chemotherapy"),
        ("Dexamethasone 4 mg PO DAILY", "Prochlorperazine 10 mg PO Q6H:PRN nausea"),
        "See your oncologist within one week to plan the next cycle.",
    ),
)
